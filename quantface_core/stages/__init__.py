"""What is done with a restorer: quantize, measure, distill, evaluate; restore photos and films. Arrays, no files."""
