"""``tfic cross-validate``: train and evaluate on every fold of a data set."""

from __future__ import annotations

import dataclasses
import functools

from tf_image_classification.cli import specs
from tf_image_classification.cli.verb import json_argument, printing_json, verb
from tf_image_classification.config import Settings, declare
from tf_image_classification.system import screen
from tf_image_classification.workflows.setup.fold_options import REFUSED, FoldOptions


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arguments(specs.SpecArguments):
    """The arguments of ``tfic cross-validate``."""

    folds: int = declare(
        5,
        "Parts that the examples are divided into; each is held out once.",
        minimum=2,
        applies=("leave_one_group_out", (False,)),
        aliases=("k", "kfold", "k_fold", "n_splits", "cv"),
    )
    repeats: int = declare(
        1,
        "Divisions into folds, each with other folds and trainings of its own.",
        minimum=1,
        applies=("leave_one_group_out", (False,)),
        aliases=("n_repeats",),
    )
    leave_one_group_out: bool = declare(
        False,
        "Hold out one group of --group_column after the other, e.g. each person or site.",
        aliases=("logo",),
    )
    processes: int = declare(
        1,
        "Folds that are trained at the same time, each in a process with memory of its own; all "
        "share the cores.",
        minimum=1,
        aliases=("workers", "jobs"),
    )
    json: str = json_argument()


@verb(
    "cross-validate",
    Arguments,
    description="Cross-validation: divide the examples into folds, train once for each on all "
    "other folds,\nand evaluate on the fold. Every example is scored once by a model that has not "
    "seen it, so the\nresult rests on the whole data set. The folder can be "
    "reported and compared\nlike a model's. The same command resumes.",
    example="tfic cross-validate pets --folds 5 --model_dir cv/pets",
    positions=("train_metadata",),
    common=(
        *(name for name in specs.COMMON if name not in REFUSED),
        *("group_column", "quiet", "verbose", "config"),
    ),
    refused=REFUSED,
)
def main(given: Arguments, settings: Settings) -> int:
    """Cross-validate; returns the exit status."""
    specs.check_given(given.spec, settings)
    options = FoldOptions(given.folds, given.repeats, given.leave_one_group_out)
    from tf_image_classification.workflows import cross_validate as validating  # late: TensorFlow

    validating.check(settings, options)
    load = functools.partial(specs.load, given.spec, settings) if given.spec else None
    with printing_json(given.json) as write_json:
        result = validating.cross_validate(
            load() if load is not None else None,
            settings,
            options,
            processes=given.processes,
            load=load,
            reference=given.spec,
        )
        print(validating.table(result))
        screen.say(validating.farewell(result))
        write_json(result.to_json())
    return 0
