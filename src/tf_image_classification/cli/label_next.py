"""``tfic label-next UNLABELLED --labelled LABELLED``: which images to label next."""

from __future__ import annotations

import dataclasses
import os
import shlex

from tf_image_classification.cli.verb import check_output, json_argument, printing_json, verb
from tf_image_classification.config import DEFAULT_MAX_PIXELS, Settings, declare
from tf_image_classification.errors import UsageError
from tf_image_classification.system import files
from tf_image_classification.workflows.setup import environment

_SHOWN = 10  # images on the screen
_RULES = ("auto", "typical", "margin", "diverse", "random")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arguments:
    """The arguments of ``tfic label-next``."""

    unlabelled: tuple[str, ...] = declare(
        (),
        "Images without a label: folders, images, patterns or any other source of tfic predict. A "
        "CSV with some labels is both.",
        separator="",
        is_required=True,
    )
    labelled: tuple[str, ...] = declare(
        (), "Images with a label, as tfic train takes them; empty: none yet.", separator=""
    )
    label: str = declare("", "Column of the classes; empty: the only one that can be.")
    model_dir: str = declare(
        "", "Model folder whose features are used; empty: the default backbone."
    )
    count: int = declare(50, "Number of images to choose.", minimum=1)
    rule: str = declare(
        "auto",
        "Rule of the choice; auto: typical below 5 labels per class, then diverse. margin: the "
        "most uncertain; random: the baseline.",
        choices=_RULES,
    )
    seed: int = declare(0, "Random seed of the rule.", minimum=0)
    output: str = declare("next.csv", "CSV to write, with an empty column for the labels.")
    page: str = declare("", "HTML page with the chosen images to write.", aliases=("html",))
    json: str = json_argument()
    max_image_pixels: int = declare(
        DEFAULT_MAX_PIXELS, "Maximum pixels per image; larger ones are left out.", minimum=1
    )


@verb(
    "label-next",
    Arguments,
    description="Choose which images without a label to label next, so that a training gains most. "
    "Write the labels into the CSV, then train on it together with the labelled images.",
    example="tfic label-next unlabelled --labelled pets --count 50 --page next.html",
    positions=("unlabelled",),
)
def main(given: Arguments, settings: Settings) -> int:
    """Choose; returns the exit status."""
    if not given.output.lower().endswith(".csv"):
        raise UsageError(f"--output {given.output}: expected a name ending in .csv.")
    for option in ("output", "page"):
        check_output(option, getattr(given, option))
    environment.prepare_tensorflow(settings.replace(deterministic=False))
    from tf_image_classification.report.next_labels import write_page  # late: help is instant
    from tf_image_classification.workflows import label_next as choosing

    for path in (given.output, choosing.labelled_path(given.output)):
        if _is_among(path, (*given.labelled, *given.unlabelled)):
            raise UsageError(
                f"--output {given.output} would overwrite {path}. Choose another name."
            )
    choosing.check_not_filled_in(given.output)
    with printing_json(given.json) as write_json:
        found = choosing.label_next(
            given.unlabelled,
            given.labelled,
            label=given.label,
            model_dir=given.model_dir,
            count=given.count,
            rule=given.rule,
            seed=given.seed,
            max_pixels=given.max_image_pixels,
            cache_dir=environment.cache_dir(settings),
        )
        print("\n".join(choosing.summary(found, given.count)))
        for rank, one in enumerate(found.images[:_SHOWN], start=1):
            guess = f"{one.guess} {one.probability:.0%}, " if one.guess else ""
            print(f"{rank:>4}  {one.path}  {guess}{one.reason}")
        if len(found.images) > _SHOWN:
            print(f"      {len(found.images) - _SHOWN} more in {given.output}")
        paths = choosing.write_tables(given.output, found)
        for path in paths:
            print(f"wrote {path}")
        if given.page:
            write_page(given.page, choosing.page_content(found))
            print(f"wrote {given.page}")
        print(_next_step(given, found.labelled.label, found.are_files, paths))
        write_json(choosing.as_json(found))
    return 0


def _is_among(path: str, sources: tuple[str, ...]) -> bool:
    """Whether a file to write is one of the sources."""
    if files.is_remote(path) or not os.path.exists(path):
        return False
    return any(os.path.realpath(path) == os.path.realpath(one) for one in sources)


def _next_step(given: Arguments, label: str, are_files: bool, paths: list[str]) -> str:
    if not are_files:
        return (
            "Some images lie inside other files, which a CSV cannot name: write the labels there, "
            "or unpack them."
        )
    command = shlex.join(["tfic", "train", *reversed(paths), "--label_columns", label])
    return f"Write the labels into the column {label} of {given.output}. Then: {command}"
