"""``tfic find-batch-size``: how fast batch sizes are, and which one is enough."""

from __future__ import annotations

from collections.abc import Sequence

from tf_image_classification.cli import specs
from tf_image_classification.config import Settings
from tf_image_classification.estimator_specs import EstimatorSpec

USAGE = f"usage: tfic find-batch-size {specs.WHICH} [flags]"
TRIAL = specs.Trial(
    "a search for a batch size",
    [name for name in specs.OPTIONS_OF_A_TRIAL if name not in ("batch_size", "recipe", "epochs")],
)


def main(arguments: Sequence[str]) -> int:
    """Try batch sizes; returns the exit status."""
    return specs.act(arguments, USAGE, _find, trial=TRIAL)


def _find(spec: EstimatorSpec, settings: Settings, _: str) -> None:
    from tf_image_classification.workflows import find_batch_size  # late: it needs TensorFlow
    from tf_image_classification.workflows.setup.context import make_context

    found = find_batch_size.find_batch_size(make_context(spec, settings))
    for size, speed in found.images_per_second.items():
        print(f"batch size {size:>5}: {speed:8.1f} images/s")
    print(f"--batch_size {found.suggestion} (the largest that was tried: {found.largest})")
