"""Cross-validation: each fold is a run that holds out its examples, and all are pooled at the end.

result = cross_validate(None, settings, FoldOptions(folds=5))

A fold is an ordinary run in a model folder of its own, so a cross-validation that is killed loses
nothing. Several processes may work in its folder: each takes the folds that no other one trains.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import shlex
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from tf_image_classification.config import OPTIONS, Settings
from tf_image_classification.distributed import cluster_spec
from tf_image_classification.errors import (
    ConfigError,
    DataError,
    RunInterrupted,
    RunMismatchError,
    SpecError,
    TficError,
    UsageError,
)
from tf_image_classification.estimator_specs import spec_name
from tf_image_classification.evaluation.predictions import Predictions
from tf_image_classification.model_folder import FINAL_COMMAND, ModelFolder
from tf_image_classification.system import files, screen, signals
from tf_image_classification.system.process_pool import process_pool
from tf_image_classification.workflows import messages, pool_folds
from tf_image_classification.workflows.pool_folds import CrossValidation
from tf_image_classification.workflows.setup import backbone_spec, run_data
from tf_image_classification.workflows.setup.context import Sources, make_context
from tf_image_classification.workflows.setup.default_folder import cross_validation_folder
from tf_image_classification.workflows.setup.environment import prepare_tensorflow
from tf_image_classification.workflows.setup.fold_options import REFUSED, FoldOptions
from tf_image_classification.workflows.setup.folds import Fold, FoldPlan, open_plan
from tf_image_classification.workflows.train_fold import (
    ORIGIN,
    complete_predictions,
    train_fold,
)

if TYPE_CHECKING:
    from tf_image_classification.estimator_specs import EstimatorSpec

_ALLOWED = ", and add --allow_changes to resume"
"""The end of messages of a training that does not hold here: all folds need the same data."""

_SPAN = 2.0  # seconds between two looks at a fold that another process trains
_AGAIN = "Start the same command again to continue the cross-validation."


def check(settings: Settings, options: FoldOptions) -> None:
    """Reject settings that a cross-validation cannot follow, before anything is read.

    Raises:
        UsageError: there are no examples.
        ConfigError: an option has no effect here, or the process is one of a cluster.
    """
    if not settings.data.train_metadata:
        raise UsageError(
            "missing: DATA, the examples: a folder with one folder of images per class, "
            "a CSV or TFRecord files."
        )
    for name, reason in REFUSED.items():
        if settings.is_chosen(name) and settings.values()[name] != OPTIONS[name].default:
            raise ConfigError(
                f"{name} ({settings.origin(name)}) has no effect in a cross-validation: {reason}. "
                "Remove it."
            )
    if options.leave_one_group_out and not settings.data.group_column:
        raise ConfigError(
            "leave_one_group_out holds out one group after the other. Name the column of the "
            "groups: --group_column person."
        )
    if cluster_spec.read_cluster(os.environ) is not None:
        raise ConfigError(
            "TF_CONFIG or SLURM's variables make this process a task of a cluster, but a fold is "
            "trained on one machine. Unset them; the same command may run on several machines "
            "with one shared --model_dir, and each takes the folds that no other one trains."
        )
    if files.is_remote(settings.run.model_dir):
        raise ConfigError(
            f"--model_dir {settings.run.model_dir}: a cross-validation needs a local folder."
        )


def cross_validate(
    spec: EstimatorSpec | None,
    settings: Settings,
    options: FoldOptions,
    *,
    processes: int = 1,
    load: Callable[[], EstimatorSpec] | None = None,
    reference: str = "",
) -> CrossValidation:
    """Train and evaluate every fold, and pool them; the same call continues what was interrupted.

    Args:
        spec: the classifier; None: a built-in backbone.
        settings: of all trainings; ``model_dir`` is the folder of the cross-validation.
        options: how the training set is divided.
        processes: folds that are trained at the same time, each in a process of its own.
        load: makes ``spec`` in such a process; a function of a module.
        reference: how ``spec`` is named on a command line, for the line of the final training.

    Raises:
        ConfigError: a setting cannot be followed, or the set cannot be divided like this.
        RunMismatchError: the folder belongs to another cross-validation, or to a run.
        TficError: a fold failed; names it. The other folds are kept.
        RunInterrupted: a signal stopped it.
    """
    check(settings, options)
    settings = cross_validation_folder(settings)
    if processes > 1 and spec is not None and load is None:
        raise ConfigError(
            "processes is more than 1, but other processes cannot load a spec from Python. Use "
            "processes=1, or tfic cross-validate DATA --spec file.py:Class."
        )
    with signals.resumable("between two folds. Nothing was lost", again=_AGAIN):
        work = _open(spec, settings, options)
        plan = work.plan
        screen.say(_announcement(work, processes))
        found = _complete(plan)
        for fold in found:
            screen.say(_line(work, fold, found[fold], is_earlier=True))
        waiting = [fold for fold in plan.folds if fold not in found]
        failures: dict[Fold, TficError] = {}
        for fold, outcome in _outcomes(work, waiting, options, processes, load):
            if isinstance(outcome, TficError):
                failures[fold] = outcome
                if isinstance(outcome, (ConfigError, SpecError, DataError)):
                    break  # every fold would fail like this one
                screen.say(f"{fold.title}: failed: {outcome}")
            else:
                found[fold] = outcome
                screen.say(_line(work, fold, outcome))
        if failures:
            raise _failed(failures, len(plan.folds))
        group = settings.data.group_column
        result = pool_folds.store(plan, {fold: found[fold] for fold in plan.folds}, group)
        line = final_command(settings, reference)
        files.write_bytes(files.join(plan.root, FINAL_COMMAND), f"{line}\n".encode())
    return result


@dataclasses.dataclass(frozen=True)
class _Work:
    """What is common to all folds."""

    spec: EstimatorSpec
    settings: Settings
    sources: Sources
    plan: FoldPlan
    has_classes: bool
    labels: tuple[str, ...]
    notes: tuple[str, ...]


def _open(spec: EstimatorSpec | None, settings: Settings, options: FoldOptions) -> _Work:
    """Read the whole training set, and choose or read its folds."""
    prepare_tensorflow(settings)
    root = settings.run.model_dir
    if ModelFolder(root).has_manifest:
        raise RunMismatchError(
            f"{root} is the model folder of a training. Give the cross-validation another "
            "--model_dir."
        )
    files.check_writable(root)
    sources = Sources()
    if spec is None:
        settings = backbone_spec.backbone_settings(settings)
        settings = settings.with_choices({"eval_split": 0.0}, ORIGIN, over=("backbone",))
        spec = backbone_spec.make_backbone_spec(settings, sources)
    if spec.has_own_input:
        raise SpecError(
            "The spec has its own input_fn, and only it knows its examples, so they cannot be "
            "divided into folds. Remove input_fn, or divide the examples into files yourself and "
            "train once for each fold."
        )
    data = run_data.read_data(make_context(spec, settings, sources=sources))
    table = data.train.table if data.train is not None else None
    assert table is not None
    plan = open_plan(settings, options, sources, table, data.schema, spec_name(spec))
    has_classes = any(label.has_classes for label in data.schema)
    assert data.train is not None
    labels = tuple(messages.label_line(data, label, data.train) for label in data.schema)
    return _Work(spec, settings, sources, plan, has_classes, labels, table.notes)


def _complete(plan: FoldPlan) -> dict[Fold, Predictions]:
    found = {fold: complete_predictions(fold.folder) for fold in plan.folds}
    return {fold: one for fold, one in found.items() if one is not None}


_Outcome = Predictions | TficError


def _outcomes(
    work: _Work,
    folds: list[Fold],
    options: FoldOptions,
    processes: int,
    load: Callable[[], EstimatorSpec] | None,
) -> Iterator[tuple[Fold, _Outcome]]:
    """The predictions of each fold, or its error, as they come."""
    if processes == 1 or len(folds) < 2:
        yield from _one_by_one(work, folds)
        return
    task = functools.partial(_in_other_process, load, work.settings, options)
    with process_pool(min(processes, len(folds))) as pool:
        for fold, error in pool.map(task, folds):
            predictions = complete_predictions(fold.folder)
            if error is None and predictions is not None:
                yield fold, predictions
            else:
                yield fold, error or ConfigError(f"{fold.folder.path} was removed meanwhile.")


def _one_by_one(work: _Work, folds: list[Fold]) -> Iterator[tuple[Fold, _Outcome]]:
    """As ``_outcomes``; folds that another process trains come last, and are waited for."""
    waiting = list(folds)
    while waiting:
        free = [fold for fold in waiting if not fold.folder.is_locked]
        if not free:
            time.sleep(_SPAN)
            continue
        fold = free[0]
        waiting.remove(fold)
        outcome: _Outcome
        screen.say(f"{fold.title}: training in {fold.folder.path}")
        try:
            outcome = train_fold(work.spec, work.settings, work.sources, work.plan, fold)
        except RunMismatchError:
            if not fold.folder.is_locked:
                raise
            waiting.append(fold)  # another process has begun it just now
            continue
        except RunInterrupted:
            raise
        except TficError as error:
            outcome = error
        yield fold, outcome


def _in_other_process(
    load: Callable[[], EstimatorSpec] | None, settings: Settings, options: FoldOptions, fold: Fold
) -> tuple[Fold, TficError | None]:
    """Train one fold; the task of a process."""
    with screen.quiet():
        quiet = settings.replace(progress=False)
        work = _open(None if load is None else load(), quiet, options)
        try:
            train_fold(work.spec, work.settings, work.sources, work.plan, fold)
        except TficError as error:
            return fold, type(error)(str(error))
    return fold, None


def _failed(failures: Mapping[Fold, TficError], count: int) -> TficError:
    """The error of the first fold that failed, with its name."""
    fold, error = next(iter(failures.items()))
    many = f"{len(failures)} of {count} folds failed. " if len(failures) > 1 else ""
    text = str(error).rstrip(".").removesuffix(_ALLOWED)
    text = (
        f"{many}{fold.title}, in {fold.folder.path}: {text}. The complete folds are kept "
        "for the same command with the same images; with other images start in another --model_dir."
    )
    return type(error)(text)


def _announcement(work: _Work, processes: int) -> str:
    plan = work.plan
    scored = int((plan.assigned[0] > 0).sum())
    how = ", of each class" if work.has_classes else ""
    how = ", one for each group" if plan.groups else how
    column = work.settings.data.group_column
    if column and not plan.groups:
        how += f", each {column} in one fold"
    repeats = f", {plan.repeats} times" if plan.repeats > 1 else ""
    lines = [
        f"cross-validation: {scored} examples in {plan.num_folds} folds{repeats}{how}; "
        f"{len(plan.folds)} trainings in {plan.root}",
        *work.labels,
        *work.notes,
        *plan.notes,
    ]
    if processes > 1:
        lines.append(
            f"processes: {processes}, each with a model and a pipeline of its own; they share the "
            f"{os.cpu_count()} cores and the devices of this machine"
        )
    return "\n".join(lines)


def _line(work: _Work, fold: Fold, predictions: Predictions, *, is_earlier: bool = False) -> str:
    """One line for a complete fold."""
    one = pool_folds.score_of(fold, predictions, work.settings.data.group_column)
    names = pool_folds.score_names(predictions)
    shown = ", ".join(f"{_named(n, names)} {score}" for n, score in one.scores.items())
    ending = " (complete before)" if is_earlier else ""
    return f"{fold.title}: {shown} on {one.num_examples} examples{ending}"


def _named(label: str, names: Mapping[str, str]) -> str:
    name = names[label].replace("_", " ")
    return name if len(names) == 1 else f"{label} {name}"


def table(result: CrossValidation) -> str:
    """The folds and their mean, a line each."""
    names = result.score_names
    head = ["fold", "examples", *(_named(name, names) for name in names)]
    rows = [
        [one.fold.title, str(one.num_examples), *(str(one.scores[n]) for n in names)]
        for one in result.folds
    ]
    if len(result.repeats) > 1:
        rows += [
            [f"all of repeat {k}", "", *(f"{found[n]:.3f}" for n in names)]
            for k, found in enumerate(result.repeats, 1)
        ]
    total = ["all", str(len(result.predictions)), *(str(result.scores[n]) for n in names)]
    lines = _aligned([head, *rows, total])
    return "\n".join([*lines, pool_folds.meaning(result)])


def _aligned(rows: list[list[str]]) -> list[str]:
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def farewell(result: CrossValidation) -> str:
    """The paths of the result, with the commands that use it."""
    path = shlex.quote(result.model_dir)
    line = files.read_text(files.join(result.model_dir, FINAL_COMMAND)).strip()
    return "\n".join(
        [
            f"folder:        {result.model_dir}",
            f"report:        tfic report {path}",
            f"compare:       tfic compare {path} OTHER",
            f"final model:   {line}",
        ]
    )


def final_command(settings: Settings, reference: str = "") -> str:
    """The command line that trains one model on all examples with the same settings."""
    words = ["tfic", "train", *settings.data.train_metadata]
    words += ["--spec", reference] if reference else []
    words += ["--eval_split", "0"]
    left_out = {"train_metadata", "model_dir", "group_column", "eval_split", "progress"}
    for name, value in settings.values().items():
        if not settings.is_chosen(name) or name in left_out or value is None:
            continue
        if OPTIONS[name].kind is bool:
            words.append(f"--{'' if value else 'no'}{name}")
        elif OPTIONS[name].kind is tuple:
            words += [word for part in value for word in (f"--{name}", str(part))]
        else:
            words += [f"--{name}", str(value)]
    return " ".join(map(shlex.quote, words))
