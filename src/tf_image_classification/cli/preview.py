"""``tfic preview``: a contact sheet of augmented training images, as a PNG."""

from __future__ import annotations

import dataclasses

from tf_image_classification.cli import specs
from tf_image_classification.cli.verb import check_output, verb
from tf_image_classification.config import Settings, declare


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arguments(specs.SpecArguments):
    """The arguments of ``tfic preview``."""

    output: str = declare("preview.png", "PNG file to write.")


@verb(
    "preview",
    Arguments,
    description="Draw training images after preprocessing: one row per example, as in evaluation "
    "and in\nthe first epochs of training.",
    example="tfic preview pets --output preview.png",
    positions=("train_metadata",),
    common=(*specs.COMMON, "quiet", "verbose", "config"),
)
def main(given: Arguments, settings: Settings) -> int:
    """Write the sheet; returns the exit status."""
    check_output("output", given.output)
    spec, settings, sources = specs.spec_and_settings(given.spec, settings)
    from tf_image_classification.workflows.preview import preview  # late: it needs TensorFlow

    for row, name in enumerate(
        preview(specs.settled(spec, settings, sources), given.output), start=1
    ):
        print(f"row {row}: {name}")
    print(f"wrote {given.output}")
    return 0
