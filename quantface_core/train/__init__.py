"""Training the low-rank branches of any quantized model: QD-LoRA (docs/method.md, section 4)."""
