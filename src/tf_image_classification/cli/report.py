"""``tfic report MODEL_DIR``: an HTML report and a model card of a trained model."""

from __future__ import annotations

import dataclasses

from tf_image_classification.cli.verb import check_output, verb
from tf_image_classification.config import Settings, declare
from tf_image_classification.system import screen
from tf_image_classification.workflows.setup.environment import prepare_tensorflow


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arguments:
    """The arguments of ``tfic report``."""

    group_column: str = declare("", "Column that groups dependent examples, e.g. person.")
    output: str = declare("", "HTML file to write; empty: report.html in the model folder.")
    inspect: bool = declare(
        True, "Look for images that are in training and evaluation set, among at most 20,000."
    )


@verb(
    "report",
    Arguments,
    description="Write one HTML page about the exported model of a model folder: metrics with "
    "confidence\nintervals, errors, calibration, slices and limiting factors; and a model card.",
    example="tfic report runs/pets",
    positions=("model_dir",),
    required=("model_dir",),
)
def main(given: Arguments, settings: Settings) -> int:
    """Write the report; returns the exit status."""
    check_output("output", given.output)
    prepare_tensorflow(settings)
    from tf_image_classification.workflows import report  # late: it needs TensorFlow

    with screen.working("writing the report"):
        paths = report.write_report(
            settings,
            group=given.group_column,
            output=given.output,
            is_inspected=given.inspect,
        )
    for path in paths:
        print(f"wrote {path}")
    return 0
