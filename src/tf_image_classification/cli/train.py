"""``tfic train``: train a spec or a built-in backbone; also resumes, plans and evaluates."""

from __future__ import annotations

from tf_image_classification.cli import specs
from tf_image_classification.cli.verb import verb
from tf_image_classification.config import Settings
from tf_image_classification.workflows.setup.environment import prepare_tensorflow


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
    line = ""
    if not given.spec:
        prepare_tensorflow(settings)
        from tf_image_classification.workflows.setup.default_folder import with_default_folder

        settings, line = with_default_folder(settings)
    spec, settings, sources = specs.spec_and_settings(given.spec, settings)
    from tf_image_classification.workflows.run import run  # late: help is instant without it

    if line:
        print(line)
    run(spec, settings, sources=sources)
    return 0
