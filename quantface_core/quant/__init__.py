"""The method for any `nn.Module`: observe, balance, allocate, quantize, save (docs/method.md)."""
