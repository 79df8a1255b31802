"""The method for any `nn.Module`: observe, balance, allocate, quantize, save (DESIGN.md section 3)."""
