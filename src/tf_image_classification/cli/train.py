"""``tfic train``: train a spec or a built-in backbone; also resumes, plans and evaluates."""

from __future__ import annotations

from tf_image_classification.cli import specs
from tf_image_classification.cli.verb import verb
from tf_image_classification.config import Settings


@verb(
    "train",
    specs.SpecArguments,
    description="Train a spec, or a built-in backbone with labels inferred from the data. The "
    "same\ncommand resumes an interrupted run; --plan shows it, --evaluate evaluates its model.",
    example="tfic train --backbone mobilenet_v2 --train_metadata pets --model_dir runs/pets",
)
def main(given: specs.SpecArguments, settings: Settings) -> int:
    """Train; returns the exit status."""
    spec, settings, sources = specs.spec_and_settings(given.spec, settings)
    from tf_image_classification.workflows.run import run  # late: help is instant without it

    run(spec, settings, sources=sources)
    return 0
