"""QuantFace in Stable Diffusion WebUI: AUTOMATIC1111's, Forge and what descends from them.

`scripts/quantface.py` is what the host loads; `host` alone knows the host. Nothing here imports torch or diffusers
before a face is restored.
"""
