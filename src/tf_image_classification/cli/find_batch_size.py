"""``tfic find-batch-size``: how fast batch sizes are, and which one is enough."""

from __future__ import annotations

from collections.abc import Sequence

from tf_image_classification import command_line, train_estimator
from tf_image_classification.cli import arguments as cli_arguments
from tf_image_classification.cli import specs

USAGE = f"usage: tfic find-batch-size {specs.WHICH} [flags]"


def main(arguments: Sequence[str]) -> int:
    """Try batch sizes; returns the exit status."""
    if cli_arguments.asks_for_help(arguments):
        print(command_line.help_text(USAGE))
        return 0
    with train_estimator.ends_the_process():
        spec, settings = specs.spec_and_settings(arguments, USAGE)
        from tf_image_classification.runs import finders

        found = finders.find_batch_size(spec, settings, train_estimator.cache_dir(settings))
        for size, speed in found.images_per_second.items():
            print(f"batch size {size:>5}: {speed:8.1f} images/s")
        print(f"--batch_size {found.suggestion} (the largest that was tried: {found.largest})")
    return 0
