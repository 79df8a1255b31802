"""What a user does with a restorer, one verb per file: restore, build, quantize, allocate, distill, evaluate, fetch.

Each is a function of a frozen request and callbacks that returns a frozen result. The command, the nodes and the WebUI
translate between these and their users; everything in between is here alone.
"""
