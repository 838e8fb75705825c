"""Decoding of images with TensorFlow operations: formats, orientation, cropping, limits."""
