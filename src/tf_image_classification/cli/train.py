"""``tfic train``: what a user's script does, without the script, or without any class at all."""

from __future__ import annotations

from collections.abc import Sequence

from tf_image_classification import train_estimator
from tf_image_classification.cli import specs
from tf_image_classification.config import Settings
from tf_image_classification.estimator_specs import EstimatorSpec
from tf_image_classification.system import streams

USAGE = f"usage: tfic train {specs.WHICH} [flags]"


def main(arguments: Sequence[str]) -> int:
    """Train; returns the exit status."""
    return specs.act(arguments, USAGE, _train)


def _train(spec: EstimatorSpec, settings: Settings, _: str) -> None:
    with streams.may_end():
        train_estimator.train(spec, settings)
