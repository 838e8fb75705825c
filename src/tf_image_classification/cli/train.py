"""``tfic train``: train a spec or a built-in backbone; also resumes, plans and evaluates."""

from __future__ import annotations

import dataclasses

from tf_image_classification.cli import specs
from tf_image_classification.cli.verb import json_argument, printing_json, verb
from tf_image_classification.config import Settings


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arguments(specs.SpecArguments):
    """The arguments of ``tfic train``."""

    json: str = json_argument()


@verb(
    "train",
    Arguments,
    description="Train a classifier of the images in a folder with one folder per class, a CSV or "
    "TFRecord\nfiles: a built-in backbone with labels inferred from the data, or a --spec. Without "
    "evaluation\nset a part of the examples is held out. The same command resumes an interrupted "
    "run; --plan\nshows it, --evaluate evaluates its model.",
    example="tfic train pets",
    positions=("train_metadata",),
    common=(
        *specs.COMMON,
        *("evaluate", "plan", "export_dir", "quiet", "verbose", "config"),
    ),
)
def main(given: Arguments, settings: Settings) -> int:
    """Train; returns the exit status."""
    specs.check_given(given.spec, settings)
    from tf_image_classification.workflows.run import run, run_backbone  # late: help is instant

    with printing_json(given.json) as write_json:
        if given.spec:
            result = run(specs.load(given.spec, settings), settings)
        else:
            result = run_backbone(settings)
        write_json(result.to_json())
    return 0
