"""QuantFace in Stable Diffusion WebUI: AUTOMATIC1111's, Forge and what descends from them, SD.Next in part.

`scripts/quantface.py` is what the host loads: it registers `extras`, `generation` and `api`. All three call
`restore`, which restores one image. Nothing here imports diffusers before a face is restored.
"""
