"""``tfic find-learning-rate``: a learning-rate range test, with a plot."""

from __future__ import annotations

import dataclasses

from tf_image_classification.cli import specs
from tf_image_classification.cli.verb import check_output, verb
from tf_image_classification.config import Settings, declare


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arguments(specs.SpecArguments):
    """The arguments of ``tfic find-learning-rate``."""

    output: str = declare("learning_rate.png", "PNG file to write.")


@verb(
    "find-learning-rate",
    Arguments,
    description="Learning-rate range test: increase the rate over some training steps, plot the "
    "loss, and\nsuggest a rate.",
    example="tfic find-learning-rate pets --backbone resnet50",
    positions=("train_metadata",),
    common=(*specs.COMMON, "quiet", "verbose", "config"),
)
def main(given: Arguments, settings: Settings) -> int:
    """Try rates; returns the exit status."""
    check_output("output", given.output)
    with specs.no_model_folder(settings) as trial:
        spec, trial, sources = specs.spec_and_settings(given.spec, trial)
        from tf_image_classification.workflows import find_learning_rate  # late: for TensorFlow

        found = find_learning_rate.find_learning_rate(specs.settled(spec, trial, sources))
        find_learning_rate.draw_learning_rates(found, given.output)
    print(f"tried {len(found.rates)} rates from {found.rates[0]:.2g} to {found.rates[-1]:.2g}")
    print(f"--learning_rate {found.suggestion:g}")
    print(f"wrote {given.output}")
    return 0
