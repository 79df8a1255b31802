"""Tensors in, tensors out: the arithmetic of low-bit layers, without modules and files."""
