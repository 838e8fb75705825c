"""``tfic evaluate MODEL_DIR``: the metrics of a model folder's model on any evaluation set."""

from __future__ import annotations

import dataclasses

from tf_image_classification.cli import specs
from tf_image_classification.cli.verb import json_argument, printing_json, verb
from tf_image_classification.config import Settings, declare
from tf_image_classification.workflows.setup.environment import prepare_tensorflow


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arguments:
    """The arguments of ``tfic evaluate``."""

    spec: str = declare(
        "",
        "Spec as module:Class or file.py:Class: evaluate the best checkpoint with the spec's own "
        "metrics, instead of the exported model, which needs no other code.",
    )
    group_column: str = declare(
        "",
        "Column of the evaluation set that groups dependent examples, e.g. person; confidence "
        "intervals are then over groups.",
    )
    keep_evaluation: str = declare(
        "auto",
        "Whether the folder's reports, exports and predictions are based on this evaluation from "
        "now on; auto: unless it is too small to calibrate a label that is calibrated now.",
        choices=("auto", "yes", "no"),
    )
    json: str = json_argument()


@verb(
    "evaluate",
    Arguments,
    description="Evaluate the model of a model folder on the whole evaluation set: that of its "
    "training,\nor --eval_metadata.",
    example="tfic evaluate models/pets --data pets/test",
    positions=("model_dir",),
    common=(
        "model_dir",
        "eval_metadata",
        "batch_size",
        "slice_column",
        "quiet",
        "verbose",
        "config",
    ),
)
def main(given: Arguments, settings: Settings) -> int:
    """Evaluate; returns the exit status."""
    prepare_tensorflow(settings)
    from tf_image_classification.workflows.run import evaluate  # late: help is instant without it

    with printing_json(given.json) as write_json:
        spec = specs.load(given.spec, settings) if given.spec else None
        result = evaluate(spec, settings, given.group_column, given.keep_evaluation)
        write_json(result.to_json())
    return 0
