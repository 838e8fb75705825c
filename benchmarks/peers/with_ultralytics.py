"""Ultralytics: the commands of its page on classification, with weights from a package of pip."""

from __future__ import annotations

import common
import timm
import torch
import torchvision.transforms
import yaml
from torchvision.models._api import register_model
from ultralytics import YOLO

FLAGS = {"epochs": 100, "imgsz": 224, "model": "lite0", "hours": 0.0}


@register_model()
def lite0(weights=None):
    """The convolutions of EfficientNet-Lite 0 with ImageNet weights."""
    model = timm.create_model("tf_efficientnet_lite0", num_classes=0, global_pool="")
    model.load_state_dict(common.lite0_weights(model))
    halves = (0.5, 0.5, 0.5)  # Ultralytics gives pixels from 0 to 1.
    return torch.nn.Sequential(torchvision.transforms.Normalize(halves, halves), model)


def network(name, output):
    """A model file: Ultralytics' head on the weights of lite0, or a network of its own."""
    if name != "lite0":
        return name
    path = output / "lite0.yaml"
    body = [-1, 1, "TorchVision", [1280, "lite0", None, True, 0]]
    rows = {"nc": 1000, "backbone": [body], "head": [[-1, 1, "Classify", ["nc"]]]}
    path.write_text(yaml.safe_dump(rows), encoding="utf-8")
    return path


def train(given):
    model = YOLO(network(given.model, given.output), task="classify")
    model.train(
        data=str(given.data),
        epochs=given.epochs,
        imgsz=given.imgsz,
        seed=given.seed,
        time=given.hours or None,
        project=str(given.output),
        name="run",
    )


def predict(given):
    model = YOLO(given.output / "run" / "weights" / "best.pt")
    paths = common.images(given.data / "val")
    classes = [model.names[result.probs.top1] for result in model(paths, verbose=False)]
    common.write_predictions(given.output, paths, classes)


if __name__ == "__main__":
    given = common.arguments(**FLAGS)
    {"train": train, "predict": predict}[given.step](given)
