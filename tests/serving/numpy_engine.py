"""A model in NumPy, for tests of the server that need no trained one: it loads at once."""

import hashlib
import io

import numpy as np
from PIL import Image

from tf_image_classification.errors import BadImageError
from tf_image_classification.labels import Label, LabelSchema
from tf_image_classification.serving.predictor import Predictor

SIZE = 4
PET = Label("pet", depth=3, class_names=("cat", "dog", "emu"))
AGE = Label("age", kind="regression")


class NumpyEngine:
    """Logits are mean colours times a factor; a regression value is the first of them."""

    name = "numpy"
    num_calls = 1
    no_heat_maps = no_features = "a model in NumPy"
    scores_of = ""

    def __init__(self, schema, step, factor=1.0):
        self.schema, self.step, self.factor = schema, step, factor
        self.made_from = self.fingerprint()

    def fingerprint(self):
        return hashlib.sha256(str((self.step, self.factor)).encode()).hexdigest()

    def prepare(self, data):
        try:
            image = Image.open(io.BytesIO(data)).convert("RGB")
        except OSError as error:
            raise BadImageError("not an image") from error
        return self.prepare_pixels(np.asarray(image))

    def prepare_pixels(self, pixels):
        small = Image.fromarray(pixels).resize((SIZE, SIZE))
        return np.asarray(small, np.float32) / 255

    def predictions(self, images):
        logits = self.factor * np.stack(images).mean(axis=(1, 2))
        found = {}
        for label in self.schema:
            if not label.has_classes:
                found[label.name] = logits[:, 0]
                continue
            exponents = np.exp(logits)
            found[f"{label.name}_probabilities"] = exponents / exponents.sum(axis=1, keepdims=True)
            found[label.name] = logits.argmax(axis=1)
        return found

    def explain(self, images):
        return {}

    def declared_pixels(self, data):
        try:
            width, height = Image.open(io.BytesIO(data)).size
        except OSError:
            return 0
        return width * height


def model(*labels, step=7, factor=1.0):
    """A predictor over it."""
    schema = LabelSchema(labels or (PET,))
    engine = NumpyEngine(schema, step, factor)
    return Predictor(engine, schema, {}, max_pixels=10_000, facts={"network": "NumPy"})


def png(colour=(200, 30, 60), size=(6, 5)):
    """An encoded image."""
    stream = io.BytesIO()
    Image.new("RGB", size, colour).save(stream, "PNG")
    return stream.getvalue()
