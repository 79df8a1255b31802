"""Layers that hold integers and compute with integers, and how they take their places."""
