"""QuantFace in Stable Diffusion WebUI: AUTOMATIC1111's, Forge and what descends from them.

`scripts/quantface.py` is what the host loads: it puts `extras`, `generation` and `api` into their places. All three
call `restore`, which restores one picture. Nothing here imports diffusers before a face is restored.
"""
