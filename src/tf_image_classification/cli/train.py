"""``tfic train``: train a spec or a built-in backbone; also resumes, plans and evaluates."""

from __future__ import annotations

from tf_image_classification.cli import specs
from tf_image_classification.cli.verb import verb
from tf_image_classification.config import Settings


@verb(
    "train",
    specs.SpecArguments,
    description="Train a classifier of the images in a folder with one folder per class, a CSV or "
    "TFRecord\nfiles: a built-in backbone with labels inferred from the data, or a --spec. Without "
    "evaluation\nset a part of the examples is held out. The same command resumes an interrupted "
    "run; --plan\nshows it, --evaluate evaluates its model.",
    example="tfic train pets",
    positions=("train_metadata",),
)
def main(given: specs.SpecArguments, settings: Settings) -> int:
    """Train; returns the exit status."""
    specs.check_given(given.spec, settings)
    from tf_image_classification.workflows.run import run, run_backbone  # late: help is instant

    if given.spec:
        run(specs.load(given.spec, settings), settings)
    else:
        run_backbone(settings)
    return 0
