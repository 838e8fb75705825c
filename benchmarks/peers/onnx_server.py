"""A hand-written server: FastAPI and ONNX Runtime, the request form of TensorFlow Serving.

pip install -r benchmarks/peers/requirements-onnx-server.txt
python benchmarks/peers/onnx_server.py MODEL.onnx PORT
"""

import base64
import io
import sys

import numpy as np
import onnxruntime
import uvicorn
from fastapi import FastAPI
from PIL import Image

session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
[details] = session.get_inputs()
side = details.shape[1]
app = FastAPI()


@app.get("/health")
def health():
    return {"status": "ok"}


@app.post("/v1/models/model:predict")
def predict(body: dict):
    pixels = []
    for one in body["instances"]:
        image = Image.open(io.BytesIO(base64.b64decode(one["b64"]))).convert("RGB")
        pixels.append(np.asarray(image.resize((side, side), Image.Resampling.BILINEAR), np.float32))
    outputs = session.run(None, {details.name: np.stack(pixels)})
    return {"predictions": outputs[0].tolist()}


uvicorn.run(app, port=int(sys.argv[2]), log_level="warning")
