"""``tfic inspect SOURCE [--eval OTHER]``: what is wrong with images and labels."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from tf_image_classification.cli import arguments as cli_arguments
from tf_image_classification.config import DEFAULT_MAX_PIXELS, make_settings
from tf_image_classification.system import files
from tf_image_classification.system.process_exit import ends_the_process
from tf_image_classification.workflows.setup.environment import prepare_tensorflow

_EXAMPLE = "example: tfic inspect train.csv --eval eval.csv --page inspection.html"
_STATUS = {"error": 1}


def main(arguments: Sequence[str]) -> int:
    """Inspect; returns 1 if there is an error among the findings, else 0."""
    parser = _parser()
    given = parser.parse_args(arguments)
    if bool(given.backbone) != bool(given.checkpoint_path):
        parser.error("--backbone and --checkpoint_path go together: a network and its weights")
    status = 0
    with ends_the_process():
        for option in ("page", "json", "write_csv"):
            cli_arguments.check_output(option, getattr(given, option))
        if given.backbone:
            prepare_tensorflow(make_settings({"deterministic": False}))
        from tqdm import tqdm  # late: help is instant without them

        from tf_image_classification.inspection.page import write_page
        from tf_image_classification.inspection.summary import summary
        from tf_image_classification.workflows import inspect as looking

        with tqdm(desc="inspect", unit="img", file=sys.stderr, disable=None) as bar:

            def show(done: int, count: int) -> None:
                bar.total = count
                bar.update(done - bar.n)

            found = looking.inspect(
                given.source,
                given.eval,
                label=given.label,
                group=given.group_column,
                max_pixels=given.max_image_pixels,
                num_processes=given.processes,
                backbone=given.backbone,
                weights=given.checkpoint_path,
                for_clean_csv=bool(given.write_csv),
                on_images=show,
            )
        print("\n".join(summary(found)))
        if given.page:
            write_page(given.page, found, given.source)
            print(f"wrote {given.page}")
        if given.json:
            files.write_json(given.json, looking.as_json(found))
            print(f"wrote {given.json}")
        if given.write_csv:
            count = looking.write_clean_csv(given.write_csv, found)
            print(f"wrote {given.write_csv}: {count} images")
        status = _STATUS.get(found.worst, 0)
    return status


def _parser() -> cli_arguments.Parser:
    parser = cli_arguments.Parser(
        "tfic inspect",
        description="Check every image of a source and its labels.",
        epilog=_EXAMPLE,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("source", help="as tfic convert takes it; nothing of it is changed")
    add("--eval", default="", help="evaluation images, which must not be among the others")
    add("--label", default="", help="columns of classes, e.g. colour,shape; default: all of them")
    add("--group_column", default="", help="column whose values must not be in both sets")
    add("--backbone", default="", help="network whose features find outliers and label errors")
    add("--checkpoint_path", default="", help="its weights: a file, or imagenet")
    add("--page", default="inspection.html", help="HTML file to write (inspection.html)")
    add("--json", default="", help="JSON file with all findings")
    add("--write_csv", default="", help="CSV of the training images without errors")
    add("--max_image_pixels", type=int, default=DEFAULT_MAX_PIXELS, help="larger images are broken")
    add("--processes", type=int, default=0, help="0: one a core")
    return parser
