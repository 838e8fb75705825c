"""Encoded images as TensorFlow operations: formats, orientation, cropping, damaged files."""
