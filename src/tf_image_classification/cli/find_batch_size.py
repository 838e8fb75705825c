"""``tfic find-batch-size``: throughput by batch size, and the smallest one that saturates."""

from __future__ import annotations

from tf_image_classification.cli import specs
from tf_image_classification.cli.verb import verb
from tf_image_classification.config import Settings


@verb(
    "find-batch-size",
    specs.SpecArguments,
    description="Measure the throughput of a few training steps by batch size, and suggest one.",
    example="tfic find-batch-size pets --backbone resnet50",
    positions=("train_metadata",),
    common=(*specs.COMMON, "quiet", "verbose", "config"),
)
def main(given: specs.SpecArguments, settings: Settings) -> int:
    """Try batch sizes; returns the exit status."""
    with specs.no_model_folder(settings) as trial:
        spec, trial, sources = specs.spec_and_settings(given.spec, trial)
        from tf_image_classification.workflows import find_batch_size  # late: it needs TensorFlow
        from tf_image_classification.workflows.setup.context import make_context

        found = find_batch_size.find_batch_size(make_context(spec, trial, sources=sources))
    for size, speed in found.images_per_second.items():
        print(f"batch size {size:>5}: {speed:8.1f} images/s")
    print(f"--batch_size {found.suggestion} (largest tried: {found.largest})")
    return 0
