"""Faces in images: detect, align, match colours, blend, paste; in films: track and steady. Arrays, no files."""
