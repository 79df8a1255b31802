"""What a user does with a restorer, one verb a file: restore, build, quantize, allocate, distill, evaluate, fetch.

Each is a function of a frozen request and of callbacks, and returns a frozen result. The command, the nodes and the
WebUI translate between these and their users; what happens in between is here alone.
"""
