"""``tfic compare A B``: a paired test of two models, and the gate for a new one."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

from tf_image_classification.cli.serve import TOKEN, read_token
from tf_image_classification.cli.verb import check_output, json_argument, printing_json, verb
from tf_image_classification.config import Settings, declare
from tf_image_classification.errors import UsageError, counted
from tf_image_classification.system import screen
from tf_image_classification.workflows.setup.environment import prepare_tensorflow

NOT_SHOWN = 3
"""Exit status of a gate whose claim is not shown."""

_OF_A_GATE = "one of --equivalent, --not_worse and --better"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arguments:
    """The arguments of ``tfic compare``."""

    model_dirs: tuple[str, ...] = declare(
        (),
        "The two models A and B: model folders, predictions.parquet, exported files or folders, "
        "addresses of servers, or CSV files of predictions.",
        separator="",
        is_required=True,
        aliases=("model_dir",),
    )
    equivalent: str = declare(
        "",
        "Release gate: exit with 0 only if B differs from A by less than this, e.g. 0.01 or 1%.",
    )
    not_worse: str = declare(
        "",
        "Release gate: exit with 0 only if B is less than this worse than A.",
        aliases=("non_inferior",),
    )
    better: str = declare(
        "",
        "Release gate: exit with 0 only if B is better than A, by more than the margin if one is "
        "given.",
        bare="0",
    )
    metric: str = declare(
        "",
        "Metric of the gate, e.g. macro_f1, balanced_accuracy, macro_auc or log_loss; empty: "
        "accuracy, exact match or mean absolute error.",
    )
    slices: tuple[str, ...] = declare(
        (),
        "Columns, or the label for its classes: the claim must be shown for each of their values "
        "too.",
    )
    slice_margin: str = declare(
        "", "Margin of the gate for slices; empty: that of the whole. Needs --slices."
    )
    group_column: str = declare("", "Column that groups dependent examples, e.g. person.")
    page: str = declare("", "HTML page to write, with the changed predictions.", aliases=("html",))
    token_file: str = declare(
        "", f"File with the bearer token of a server that is compared; empty: ${TOKEN}."
    )
    show: int = declare(5, "Changed examples to name of each kind.", minimum=0)
    json: str = json_argument()


@verb(
    "compare",
    Arguments,
    description="Test whether model B is better or worse than model A on the examples that both "
    "were\nevaluated on, or whether the difference is not significant. With --equivalent, "
    "--not_worse or --better, be the gate for a release: exit with 0 if the claim is shown, with "
    "3 if not. A file, a server or a CSV is evaluated on the other model's evaluation set.",
    example="tfic compare runs/small runs/large --group_column person",
    positions=("model_dirs",),
    common=("eval_metadata",),
)
def main(given: Arguments, settings: Settings) -> int:
    """Compare; returns the exit status."""
    models = _models(given)
    with printing_json(given.json) as write_json:
        check_output("page", given.page)
        is_shown, found = _compare(given, models, settings)
        write_json(found)
    return 0 if is_shown else NOT_SHOWN


def _models(given: Arguments) -> tuple[str, str]:
    """The two models."""
    for name in ("equivalent", "not_worse", "better"):
        value = getattr(given, name)
        if len(given.model_dirs) < 2 and value and (os.path.exists(value) or "/" in value):
            raise UsageError(
                f"--{name} has the value {value}, which is a path. Write the models first: "
                f"tfic compare A B --{name}{' 0.01' if name != 'better' else ''}"
            )
    if len(given.model_dirs) != 2:
        raise UsageError(
            f"{counted(len(given.model_dirs), 'model is', 'models are')} given "
            f"({', '.join(given.model_dirs)}), expected 2: tfic compare A B."
        )
    return given.model_dirs[0], given.model_dirs[1]


def _compare(
    given: Arguments, models: tuple[str, str], settings: Settings
) -> tuple[bool, dict[str, Any]]:
    """Print the comparison; returns whether a gate is passed, and the result as plain values."""
    from tf_image_classification.evaluation.claims import make_claim, read_margin

    claim = make_claim(given.equivalent, given.not_worse, given.better)
    slice_margin = read_margin("slice_margin", given.slice_margin) if given.slice_margin else None
    if given.slice_margin and not given.slices:
        raise UsageError("--slice_margin has no effect without --slices. Name the columns.")
    if claim is None:
        for name in ("metric", "slices"):
            if getattr(given, name):
                raise UsageError(f"--{name} has an effect with {_OF_A_GATE} only. Add one.")
    prepare_tensorflow(settings)
    from tf_image_classification.workflows import compare  # late: for TensorFlow

    with screen.working("comparing"):
        found = compare.compare_models(
            *models,
            settings,
            claim=claim,
            metric=given.metric,
            slices=given.slices,
            slice_margin=slice_margin,
            group=given.group_column,
            token=read_token(given.token_file),
        )
    print("\n".join(compare.lines(found, show=given.show)))
    if given.page:
        compare.write_page(given.page, found)
        print(f"wrote {given.page}")
    return found.is_shown, found.to_json()
