"""Low-bit layers, which store and multiply integers, and how they replace a model's float layers."""
