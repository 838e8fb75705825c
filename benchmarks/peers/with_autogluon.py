"""AutoGluon MultiModal: its quick start for images, with the weights of a package of pip."""

from __future__ import annotations

import json

import common
import pandas
import timm
import torch
from autogluon.multimodal import MultiModalPredictor

NETWORK = "tf_efficientnet_lite0"


def checkpoint(folder):
    """A folder in the form from which AutoGluon loads a network of timm."""
    model = timm.create_model(NETWORK, num_classes=0)
    folder.mkdir()
    torch.save(common.lite0_weights(model), folder / "pytorch_model.bin")
    settings = {"architecture": NETWORK, "num_features": model.num_features}
    settings["pretrained_cfg"] = {**model.default_cfg, "tag": ""}
    (folder / "config.json").write_text(json.dumps(settings), encoding="utf-8")
    return str(folder)


def train(given):
    paths = common.images(given.data / "train")
    table = pandas.DataFrame({"image": paths, "label": [path.split("/")[-2] for path in paths]})
    predictor = MultiModalPredictor(label="label", path=str(given.output / "predictor"))
    flags = {"model.timm_image.checkpoint_name": checkpoint(given.output / "lite0")}
    if given.epochs:
        flags["optim.max_epochs"] = given.epochs
    predictor.fit(train_data=table, hyperparameters=flags, seed=given.seed)


def predict(given):
    predictor = MultiModalPredictor.load(str(given.output / "predictor"))
    paths = common.images(given.data / "val")
    common.write_predictions(
        given.output, paths, predictor.predict(pandas.DataFrame({"image": paths}))
    )


if __name__ == "__main__":
    given = common.arguments(epochs=0)
    {"train": train, "predict": predict}[given.step](given)
