"""``tfic preview``: a picture of training images as the model will see them."""

from __future__ import annotations

from collections.abc import Sequence

from tf_image_classification.cli import specs
from tf_image_classification.config import Settings
from tf_image_classification.estimator_specs import EstimatorSpec

USAGE = f"usage: tfic preview {specs.WHICH} [--output preview.png] [flags]"


def main(arguments: Sequence[str]) -> int:
    """Write the sheet; returns the exit status."""
    return specs.act(arguments, USAGE, _preview, output="preview.png")


def _preview(spec: EstimatorSpec, settings: Settings, path: str) -> None:
    from tf_image_classification.workflows.preview import preview  # late: it needs TensorFlow

    for row, name in enumerate(preview(specs.settled(spec, settings), path), start=1):
        print(f"row {row}: {name}")
    print(f"wrote {path}")
