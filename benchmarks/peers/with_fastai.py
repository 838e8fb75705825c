"""fastai: its quick start for images, with the weights of a package of pip."""

from __future__ import annotations

import common
from fastai.vision.all import (
    ImageDataLoaders,
    Normalize,
    Resize,
    error_rate,
    load_learner,
    set_seed,
    vision_learner,
)


def train(given):
    set_seed(given.seed, reproducible=True)
    halves = Normalize.from_stats([0.5] * 3, [0.5] * 3)
    loaders = ImageDataLoaders.from_folder(
        given.data, valid="val", item_tfms=Resize(224), batch_tfms=halves
    )
    learner = vision_learner(loaders, "tf_efficientnet_lite0", pretrained=False, metrics=error_rate)
    body = learner.model[0].model
    body.load_state_dict(common.lite0_weights(body))
    learner.fine_tune(given.epochs)
    learner.export(given.output / "export.pkl")


def predict(given):
    learner = load_learner(given.output / "export.pkl")
    paths = common.images(given.data / "val")
    probabilities, _ = learner.get_preds(dl=learner.dls.test_dl(paths))
    classes = [learner.dls.vocab[index] for index in probabilities.argmax(1)]
    common.write_predictions(given.output, paths, classes)


if __name__ == "__main__":
    given = common.arguments(epochs=1)
    {"train": train, "predict": predict}[given.step](given)
