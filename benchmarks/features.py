"""The cache of features: a second pass against the first, and a training after an inspection.

    python benchmarks/features.py pets

Computes the features of a set by the default backbone twice, then inspects the set and starts a
training on it with an empty cache and with the one that the inspection left. Ratios are of passes
in turn, in one process.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import statistics
import tempfile
import time

from tf_image_classification.cli import inspect as inspect_verb
from tf_image_classification.config import DEFAULT_BACKBONE, IMAGENET, Settings
from tf_image_classification.dataset.readers import find_examples
from tf_image_classification.system import screen
from tf_image_classification.workflows.setup.environment import prepare_tensorflow


def main() -> None:
    """Print the seconds of each pass, and their ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", help="a folder with a folder of images for each class")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    prepare_tensorflow(Settings())
    listing = find_examples([given.source], option="source")
    print(f"{len(listing)} images, {DEFAULT_BACKBONE}, {IMAGENET} weights")
    first, second = [], []
    for _ in range(given.rounds):
        with tempfile.TemporaryDirectory() as cache:
            first.append(seconds_of_features(listing, cache))
            second.append(seconds_of_features(listing, cache))
    report("features, first pass and second pass", first, second)
    without, after = [], []
    for _ in range(given.rounds):
        with tempfile.TemporaryDirectory() as folder:
            without.append(seconds_of_training(given.source, folder))
        with tempfile.TemporaryDirectory() as folder:
            inspect_set(given.source, folder)
            after.append(seconds_of_training(given.source, folder))
    report("start of a training (one step), without and after tfic inspect", without, after)


def report(title: str, before: list[float], after: list[float]) -> None:
    """Print medians and the range of the ratios of the rounds."""
    ratios = sorted(a / b for a, b in zip(before, after, strict=True))
    print(
        f"{title}: {statistics.median(before):.1f} s and {statistics.median(after):.1f} s; "
        f"ratio {statistics.median(ratios):.1f} ({ratios[0]:.1f} to {ratios[-1]:.1f}, "
        f"{len(ratios)} rounds)"
    )


def seconds_of_features(listing: object, cache: str) -> float:
    """Seconds of one pass, without building the network."""
    from tf_image_classification.features.backbone import backbone_network, read_places
    from tf_image_classification.features.compute import compute_features

    network = backbone_network(DEFAULT_BACKBONE, IMAGENET)
    places = [listing.places[i] for i in range(len(listing))]
    network.forward(network.prepare([places[0].encoded()] * 32, range(32)))  # traced
    began = time.perf_counter()
    compute_features(network, read_places(places), len(places), cache_dir=cache)
    return time.perf_counter() - began


def inspect_set(source: str, folder: str) -> None:
    """Inspect with features, which fills the cache."""
    flags = ["--backbone", DEFAULT_BACKBONE, "--checkpoint_path", IMAGENET, "--page", ""]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
        inspect_verb.main([source, *flags, "--cache_dir", folder])


def seconds_of_training(source: str, folder: str) -> float:
    """Seconds of a training of one step."""
    from tf_image_classification import train

    began = time.perf_counter()
    with screen.quiet(), contextlib.redirect_stdout(io.StringIO()):
        train(
            source,
            model_dir=os.path.join(folder, "model"),
            cache_dir=folder,
            train_steps=1,
            export_saved_model=False,
            progress=False,
        )
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
