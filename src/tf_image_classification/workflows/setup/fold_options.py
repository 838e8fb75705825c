"""How a cross-validation divides its examples, and the options of a training that it rejects.

FoldOptions(folds=5, repeats=1)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True)
class FoldOptions:
    """How a training set is divided.

    Attributes:
        folds: number of folds.
        repeats: number of divisions, each with other folds.
        leave_one_group_out: whether each group of ``group_column`` is a fold.
    """

    folds: int = 5
    repeats: int = 1
    leave_one_group_out: bool = False


_LAST = (
    "each fold is scored by its last checkpoint: one that was chosen, or a training that was "
    "stopped, by the examples that are scored would look better than it is. Set the length with "
    "--epochs or --train_steps"
)
_OF_ITS_OWN = "each fold has a folder of its own below --model_dir, so one folder would be for all"
REFUSED: Mapping[str, str] = {
    "eval_metadata": "every example is held out once, so no evaluation set is needed. Evaluate the "
    "final model on yours: tfic train, then tfic evaluate MODEL_DIR --data EVAL_SET",
    "eval_split": "the folds are the evaluation sets: --folds 5 holds out a fifth each time",
    "evaluate": "the folds are evaluated by themselves. For one of them: tfic evaluate FOLD_DIR",
    "plan": "tfic train --plan shows one of the trainings",
    "input_mode": "the folds need random access to the examples",
    "allow_changes": "all folds must have the same data and settings. Use another --model_dir",
    "early_stopping_patience": _LAST,
    "best_metric": _LAST,
    "best_mode": _LAST,
    "eval_freq": _LAST,
    "eval_every_steps": _LAST,
    "eval_throttle_secs": _LAST,
    "slice_column": _LAST,
    "export_dir": _OF_ITS_OWN,
    "tensorboard_dir": _OF_ITS_OWN,
    "output_cm_folder": _OF_ITS_OWN,
}
"""By option why a cross-validation rejects it."""
