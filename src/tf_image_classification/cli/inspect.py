"""``tfic inspect SOURCE [--eval OTHER]``: problems of images and labels."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from tf_image_classification.cli.verb import check_output, json_argument, printing_json, verb
from tf_image_classification.config import DEFAULT_MAX_PIXELS, NO_GROUPS, Settings, declare
from tf_image_classification.errors import UsageError
from tf_image_classification.system import screen
from tf_image_classification.workflows.setup import environment

if TYPE_CHECKING:
    from tf_image_classification.inspection.findings import Inspection


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arguments:
    """The arguments of ``tfic inspect``."""

    source: str = declare(
        "",
        "Images as tfic convert takes them; never changed.",
        is_required=True,
        aliases=("train_metadata",),
    )
    eval: str = declare(
        "", "Evaluation images, to check for train/eval leakage.", aliases=("eval_metadata",)
    )
    label: str = declare("", "Label columns, e.g. colour,shape; empty: all.")
    group_column: str = declare("", "Column whose values must not occur in both sets.")
    groups: str = declare(
        "auto",
        "Videos, bursts and copies: auto looks for them, none does not. A group column decides "
        "instead.",
        choices=("auto", NO_GROUPS),
    )
    backbone: str = declare("", "Backbone whose features find outliers and label errors.")
    checkpoint_path: str = declare("", "Weights of the backbone: a file, or imagenet.")
    page: str = declare("inspection.html", "HTML file to write.")
    json: str = json_argument()
    write_csv: str = declare("", "CSV of the training images without errors.")
    max_image_pixels: int = declare(
        DEFAULT_MAX_PIXELS, "Maximum pixels per image; larger ones count as broken.", minimum=1
    )
    processes: int = declare(0, "Processes; 0: one per core.", minimum=0)


@verb(
    "inspect",
    Arguments,
    description="Check every image of a data set and its labels. Ends with status 1 if a finding "
    "is an error.",
    example="tfic inspect train.csv --eval eval.csv --page inspection.html",
    positions=("source",),
)
def main(given: Arguments, settings: Settings) -> int:
    """Inspect; returns 1 if there is an error among the findings, else 0."""
    if bool(given.backbone) != bool(given.checkpoint_path):
        raise UsageError("--backbone and --checkpoint_path go together: a network and its weights.")
    if given.groups == NO_GROUPS and given.group_column:
        raise UsageError(f"--groups {NO_GROUPS} has no effect: --group_column decides. Remove it.")
    for option in ("page", "write_csv"):
        check_output(option, getattr(given, option))
    if given.backbone:
        environment.prepare_tensorflow(settings.replace(deterministic=False))
    from tf_image_classification.inspection.page import write_page  # late: help is instant
    from tf_image_classification.inspection.summary import summary
    from tf_image_classification.workflows import inspect as looking

    with printing_json(given.json) as write_json:
        found = _inspect(given, settings)
        print("\n".join(summary(found)))
        if given.page:
            write_page(given.page, found, given.source)
            print(f"wrote {given.page}")
        if given.write_csv:
            count = looking.write_clean_csv(given.write_csv, found)
            print(f"wrote {given.write_csv}: {count} images")
        write_json(looking.as_json(found))
    return int(found.worst == "error")


def _inspect(given: Arguments, settings: Settings) -> Inspection:
    from tf_image_classification.workflows import inspect as looking

    with screen.progress("inspect", "img") as show:
        return looking.inspect(
            given.source,
            given.eval,
            label=given.label,
            group=given.group_column,
            groups_are_found=given.groups != NO_GROUPS,
            max_pixels=given.max_image_pixels,
            num_processes=given.processes,
            backbone=given.backbone,
            weights=given.checkpoint_path,
            cache_dir=environment.cache_dir(settings),
            for_clean_csv=bool(given.write_csv),
            on_images=show,
        )
