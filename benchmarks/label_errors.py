"""How many planted wrong labels are found, and whether the stated number of them is right.

    python benchmarks/label_errors.py --mnist ../shared/data/mnist \
        --trashnet ../shared/data/trashnet/dataset-resized \
        --weights ../shared/data/checkpoints/mobilenet_v1_1.0_224/mobilenet_v1_1.0_224.ckpt

Labels of training and evaluation are changed at a rate: to any other class (random), or to those
that a model takes the class for (confusable). MNIST: small convolutional networks of different
training, evaluated on the 10,000 test images. TrashNet: a regression on frozen features, evaluated
by cross-validation, as in ``tfic inspect --backbone``. The labels of both are taken for right,
although a few are not.
"""

from __future__ import annotations

import argparse
import gzip
import os
import types

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from tf_image_classification.evaluation.label_errors import label_errors

RATES = (0.0, 0.01, 0.03, 0.1)
HEADER = (
    "| model | accuracy | planted | candidates | precision | recall | first ones | "
    "stated wrong | expected precision | precision |"
)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mnist", help="folder of the idx files")
    parser.add_argument("--trashnet", help="folder of class folders")
    parser.add_argument("--weights", help="MobileNet v1 for TrashNet's features")
    given = parser.parse_args()
    print(HEADER)
    print("|" + "---|" * HEADER.count(" |"))
    if given.mnist:
        on_mnist(given.mnist)
    if given.trashnet:
        on_trashnet(given.trashnet, given.weights)


def planted(labels, rate, kind, confusion, random):
    """The labels with some changed, and which."""
    changed = labels.copy()
    chosen = random.choice(len(labels), round(rate * len(labels)), replace=False)
    for i in chosen:
        odds = np.ones(len(confusion)) if kind == "random" else confusion[labels[i]] + 1e-3
        odds = odds * (np.arange(len(confusion)) != labels[i])
        changed[i] = random.choice(len(confusion), p=odds / odds.sum())
    is_wrong = np.zeros(len(labels), bool)
    is_wrong[chosen] = True
    return changed, is_wrong


def cases():
    for rate in RATES:
        for kind in ("random", "confusable") if rate else ("random",):
            yield rate, kind


def line(model, rate, kind, labels, is_wrong, probabilities):
    found = label_errors(labels, probabilities)
    hits = is_wrong[found.candidates]
    first = hits[: int(is_wrong.sum())]
    told = found.num_wrong is not None
    cells = [
        model,
        f"{np.mean(probabilities.argmax(axis=1) == labels):.3f}",
        f"{is_wrong.sum()} {kind}" if rate else "0",
        len(hits),
        f"{hits.mean():.2f}" if len(hits) else "-",
        f"{hits.sum() / is_wrong.sum():.2f}" if rate else "-",
        f"{first.mean():.2f}" if len(first) else "-",
        f"{found.num_wrong:.0f}" if told else "not told",
        f"{found.expected_precision:.2f}" if told else "-",
        f"{hits[: found.num_likely].mean():.2f}" if told else "-",
    ]
    print("| " + " | ".join(map(str, cells)) + " |", flush=True)


def on_mnist(folder):
    import keras

    def read(name):
        with gzip.open(os.path.join(folder, name)) as stream:
            data = stream.read()
        sides = [int.from_bytes(data[4 + 4 * i : 8 + 4 * i], "big") for i in range(data[3])]
        return np.frombuffer(data, np.uint8, offset=4 + 4 * len(sides)).reshape(sides)

    images, truth = read("train-images-idx3-ubyte.gz"), read("train-labels-idx1-ubyte.gz")
    tests, right = read("t10k-images-idx3-ubyte.gz"), read("t10k-labels-idx1-ubyte.gz")
    truth, right = truth.astype(int), right.astype(int)

    def probabilities(count, epochs, labels):
        keras.utils.set_random_seed(0)
        layers = keras.layers
        model = keras.Sequential(
            [
                keras.Input([28, 28, 1]),
                layers.Rescaling(1 / 255),
                layers.Conv2D(24, 5, strides=2, activation="relu"),
                layers.Conv2D(48, 3, strides=2, activation="relu"),
                layers.Flatten(),
                layers.Dense(64, activation="relu"),
                layers.Dense(10),
            ]
        )
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile("adam", loss)
        model.fit(images[:count, ..., None], labels, batch_size=64, epochs=epochs, verbose=0)
        logits = model.predict(tests[..., None], verbose=0).astype(np.float64)
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        return powers / powers.sum(axis=1, keepdims=True)

    confusion = np.zeros([10, 10])
    np.add.at(confusion, (right, probabilities(5000, 3, truth[:5000]).argmax(axis=1)), 1)
    for count, epochs in ((500, 10), (5_000, 6), (60_000, 3)):
        for rate, kind in cases():
            random = np.random.default_rng(0)
            learned, _ = planted(truth[:count], rate, kind, confusion, random)
            labels, is_wrong = planted(right, rate, kind, confusion, random)
            found = probabilities(count, epochs, learned)
            line(f"MNIST, {count:,}", rate, kind, labels, is_wrong, found)


def on_trashnet(folder, weights):
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    from tf_image_classification.dataset.readers import find_examples
    from tf_image_classification.inspection.features import extract_features

    listing = find_examples([folder], option="--trashnet")
    images = [types.SimpleNamespace(problem="", place=place) for place in listing.places]
    features = extract_features(images, "mobilenet_v1", weights)
    features = (features - features.mean(axis=0)) / np.maximum(features.std(axis=0), 1e-6)
    _, truth = np.unique(listing.columns["label"], return_inverse=True)
    folds = StratifiedKFold(5, shuffle=True, random_state=0)

    def probabilities(labels):
        model = LogisticRegression(C=1e-2, max_iter=300)
        return cross_val_predict(model, features, labels, cv=folds, method="predict_proba")

    confusion = np.zeros([6, 6])
    np.add.at(confusion, (truth, probabilities(truth).argmax(axis=1)), 1)
    for rate, kind in cases():
        labels, is_wrong = planted(truth, rate, kind, confusion, np.random.default_rng(0))
        line("TrashNet, features", rate, kind, labels, is_wrong, probabilities(labels))


if __name__ == "__main__":
    main()
