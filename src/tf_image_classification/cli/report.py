"""``tfic report MODEL_DIR``: all that is known of a model, as one page and a model card."""

from __future__ import annotations

from collections.abc import Sequence

from tf_image_classification.cli import arguments as cli_arguments
from tf_image_classification.config import make_settings
from tf_image_classification.system.process_exit import ends_the_process
from tf_image_classification.workflows.setup.environment import prepare_tensorflow

_EXAMPLE = "example: tfic report runs/pets, then open runs/pets/report.html"


def main(arguments: Sequence[str]) -> int:
    """Write the report; returns the exit status."""
    given = _parser().parse_args(cli_arguments.with_model_dir_first(arguments))
    with ends_the_process():
        cli_arguments.check_output("output", given.output)
        values = {"model_dir": given.model_dir, "eval_metadata": tuple(given.eval_metadata)}
        settings = make_settings({name: value for name, value in values.items() if value})
        prepare_tensorflow(settings)
        from tf_image_classification.workflows import report

        paths = report.write_report(
            settings,
            group=given.group_column,
            output=given.output,
            is_inspected=given.inspect,
        )
        for path in paths:
            print(f"wrote {path}")
    return 0


def _parser() -> cli_arguments.Parser:
    parser = cli_arguments.Parser(
        "tfic report",
        description="Write one HTML page about the exported model of a folder: measures with "
        "intervals, mistakes, calibration, slices, what limits it; and a model card beside it.",
        epilog=_EXAMPLE,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("model_dir", help="folder of a run with an exported model")
    add("--eval_metadata", nargs="+", default=(), help="evaluation images, where not the run's own")
    add("--group_column", default="", help="column whose examples belong together, as a person")
    add("--output", default="", help="HTML file to write (report.html in the folder)")
    add(
        "--noinspect",
        dest="inspect",
        action="store_false",
        help="do not look for images that are in training and evaluation, among at most 20,000",
    )
    return parser
