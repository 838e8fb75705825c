"""Prediction without TensorFlow: decoding, resizing and preprocessing with NumPy and Pillow."""
