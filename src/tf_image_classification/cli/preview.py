"""``tfic preview``: a picture of training images as the model will see them."""

from __future__ import annotations

from collections.abc import Sequence

from tf_image_classification import command_line, train_estimator
from tf_image_classification.cli import arguments as cli_arguments
from tf_image_classification.cli import specs

USAGE = f"usage: tfic preview {specs.WHICH} [--output preview.png] [flags]"


def main(arguments: Sequence[str]) -> int:
    """Write the sheet; returns the exit status."""
    if cli_arguments.asks_for_help(arguments):
        print(command_line.help_text(USAGE))
        return 0
    with train_estimator.ends_the_process():
        path, rest = cli_arguments.take(arguments, "output")
        spec, settings = specs.spec_and_settings(rest, USAGE)
        from tf_image_classification.runs import recipe
        from tf_image_classification.runs.preview import preview

        cache = train_estimator.cache_dir(settings)
        spec, settings, _ = recipe.settle(spec, settings, cache)
        path = path or "preview.png"
        for row, name in enumerate(preview(spec, settings, cache, path), start=1):
            print(f"row {row}: {name}")
        print(f"wrote {path}")
    return 0
