"""Tensors in, tensors out: the arithmetic of low-bit layers, with no modules or files."""
