"""Trained models as SavedModel, LiteRT, ONNX and Keras files, each verified before it is kept."""
