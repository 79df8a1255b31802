"""Training the low-rank branches of any quantized model: QD-LoRA (DESIGN.md section 3.3)."""
