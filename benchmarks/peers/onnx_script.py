"""A hand-written script: one picture through ONNX Runtime, with Pillow's resizing.

python benchmarks/peers/onnx_script.py MODEL.onnx IMAGE
"""

import sys

import numpy as np
import onnxruntime
from PIL import Image

session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
[details] = session.get_inputs()
side = details.shape[1]
image = Image.open(sys.argv[2]).convert("RGB").resize((side, side), Image.Resampling.BILINEAR)
pixels = np.asarray(image, np.float32)[None]
probabilities = session.run(None, {details.name: pixels})[0][0]
print(int(probabilities.argmax()), float(probabilities.max()))
