"""``tfic find-learning-rate``: rates tried on some steps, with a plot."""

from __future__ import annotations

from collections.abc import Sequence

from tf_image_classification.cli import specs
from tf_image_classification.config import Settings
from tf_image_classification.estimator_specs import EstimatorSpec

USAGE = f"usage: tfic find-learning-rate {specs.WHICH} [--output learning_rate.png] [flags]"
TRIAL = specs.Trial("a search for a learning rate")


def main(arguments: Sequence[str]) -> int:
    """Try rates; returns the exit status."""
    return specs.act(arguments, USAGE, _find, output="learning_rate.png", trial=TRIAL)


def _find(spec: EstimatorSpec, settings: Settings, path: str) -> None:
    from tf_image_classification.workflows import find_learning_rate  # late: it needs TensorFlow

    found = find_learning_rate.find_learning_rate(specs.settled(spec, settings))
    find_learning_rate.draw_learning_rates(found, path)
    print(f"tried {len(found.rates)} rates from {found.rates[0]:.2g} to {found.rates[-1]:.2g}")
    print(f"--learning_rate {found.suggestion:g}")
    print(f"wrote {path}")
