"""``tfic find-learning-rate``: rates tried on some steps, with a plot."""

from __future__ import annotations

from collections.abc import Sequence

from tf_image_classification import command_line, train_estimator
from tf_image_classification.cli import arguments as cli_arguments
from tf_image_classification.cli import specs

USAGE = f"usage: tfic find-learning-rate {specs.WHICH} [--output learning_rate.png] [flags]"


def main(arguments: Sequence[str]) -> int:
    """Try rates; returns the exit status."""
    if cli_arguments.asks_for_help(arguments):
        print(command_line.help_text(USAGE))
        return 0
    with train_estimator.ends_the_process():
        path, rest = cli_arguments.take(arguments, "output")
        spec, settings = specs.spec_and_settings(rest, USAGE)
        from tf_image_classification.runs import finders, recipe

        cache = train_estimator.cache_dir(settings)
        spec, settings, _ = recipe.settle(spec, settings, cache)
        found = finders.find_learning_rate(spec, settings, cache)
        path = path or "learning_rate.png"
        finders.draw_learning_rates(found, path)
        print(f"tried {len(found.rates)} rates from {found.rates[0]:.2g} to {found.rates[-1]:.2g}")
        print(f"--learning_rate {found.suggestion:g}")
        print(f"wrote {path}")
    return 0
