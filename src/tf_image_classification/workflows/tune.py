"""Hyperparameter search with Optuna: each trial is a run that resumes.

A trial is an ordinary run in a model folder of its own, so a study that is killed loses nothing:
its unfinished trial goes on from its last checkpoint, with the settings it had.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import json
import math
import os
import sqlite3
import time
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import yaml

from tf_image_classification.config import ALIASES, OPTIONS, Settings
from tf_image_classification.config.search_space import Parameter
from tf_image_classification.errors import (
    ConfigError,
    DataError,
    NonFiniteLossError,
    RunMismatchError,
)
from tf_image_classification.hooks.base import Hook, Run
from tf_image_classification.model_folder import ModelFolder
from tf_image_classification.system import files
from tf_image_classification.workflows.run import run

if TYPE_CHECKING:
    from tf_image_classification.estimator_specs import EstimatorSpec


_FOLDER, _REASON, _SUPERSEDED = "folder", "reason", "superseded"


@dataclasses.dataclass(frozen=True, kw_only=True)
class TuneOptions:
    """How a study is made.

    Attributes:
        study_dir: its folder, local.
        trials: trainings in all, counted over restarts.
        sampler: how settings are chosen: "tpe", "random" or "grid" (choices only).
        pruner: which trials are ended early: "none", "median" or "hyperband".
        timeout_secs: no trial begins later than this; 0: no limit.
    """

    study_dir: str
    trials: int
    sampler: str = "tpe"
    pruner: str = "none"
    timeout_secs: float = 0.0


def check_space(space: Sequence[Parameter], settings: Settings) -> None:
    """Check that a search space fits the settings.

    Raises:
        ConfigError: a setting is both fixed and varied, or no values of the space go together.
    """
    if not (settings.data.eval_metadata or settings.data.eval_split):
        raise ConfigError(
            "A trial needs an evaluation set for its score. Give --eval_metadata, or --eval_split."
        )
    for parameter in space:
        name = ALIASES.get(parameter.name, parameter.name)
        if settings.origin(name) != "default":
            raise ConfigError(f"{name} is both in the space and given. Leave one of them out.")
        if OPTIONS[name].group == "run" and name != "seed":
            raise ConfigError(
                f"{name} is an option of the process, no hyperparameter. Take it out of the space."
            )


def sample(
    space: Sequence[Parameter], settings: Settings, suggest: Callable[[Parameter], Any]
) -> dict[str, Any]:
    """One value for each parameter that has an effect with the others.

    Args:
        space: the parameters.
        settings: the fixed settings.
        suggest: chooses a parameter's value.
    """
    values: dict[str, Any] = {}
    names = {ALIASES.get(p.name, p.name): p for p in space}
    fixed = settings.values()
    waiting = dict(names)
    while waiting:
        for name, parameter in list(waiting.items()):
            applies = OPTIONS[name].applies
            if applies is not None and applies[0] in waiting:
                continue  # that one first
            del waiting[name]
            if applies is None or values.get(applies[0], fixed[applies[0]]) in applies[1]:
                values[name] = suggest(parameter)
    return values


def tune(
    spec: EstimatorSpec | None,
    settings: Settings,
    space: Sequence[Parameter],
    options: TuneOptions,
) -> dict[str, Any]:
    """Search; the same call continues a study that was interrupted.

    Args:
        spec: the classifier; None: the backbone spec of each trial's ``backbone``.
        settings: the fixed settings of all trials; ``seed`` also seeds the search.
        space: the searched hyperparameters.
        options: how.

    Returns:
        The settings of the best trial that are varied.

    Raises:
        ConfigError: Optuna is not installed, the space does not fit the settings, or no trial came
            to a value.
        DataError: the study's database is damaged.
        RunMismatchError: the study's folder belongs to another search, or another process is
            searching in it.
        RunInterrupted: a signal stopped the trial that was running.
    """
    optuna = _optuna()
    check_space(space, settings)
    if files.is_remote(options.study_dir):
        raise ConfigError(f"--study_dir {options.study_dir}: a study needs a local folder.")
    files.make_folder(options.study_dir)
    # Before the study is looked at: what another process is running looks unfinished.
    with ModelFolder(options.study_dir).locked("tuning", "--study_dir"):
        return _search(optuna, spec, settings, space, options)


def _search(
    optuna: Any,
    spec: EstimatorSpec | None,
    settings: Settings,
    space: Sequence[Parameter],
    options: TuneOptions,
) -> dict[str, Any]:
    study, metric = _open_study(optuna, settings, options)
    _check_same(study, space, settings, options)
    if options.sampler == "grid" and not study.trials:
        for point in itertools.product(*(parameter.choices for parameter in space)):
            study.enqueue_trial(dict(zip((p.name for p in space), point, strict=True)))
    _put_back_unfinished(optuna, study)
    end = time.monotonic() + (options.timeout_secs or math.inf)
    while len(_finished(study)) < options.trials and time.monotonic() < end:
        # A sampler of its own for each trial: its choice is a function of seed, trial and history.
        number = len(_finished(study))
        study.sampler = _sampler(optuna, options.sampler, settings.run.seed + number)
        trial = study.ask()
        values = sample(space, settings, functools.partial(_suggested, trial))
        folder = trial.user_attrs.get(_FOLDER) or f"trial-{number:04d}"
        trial.set_user_attr(_FOLDER, folder)
        _run_trial(optuna, study, trial, spec, settings, values, metric, options)
        _write_results(study, settings, options)
        if options.sampler == "grid" and len(_finished(study)) >= _grid_size(space):
            break
    if not any(trial.state.name == "COMPLETE" for trial in study.trials):
        raise ConfigError(_why_none_is_complete(study, options))
    _draw(optuna, study, options)
    return _values_of(study.best_trial)


def _open_study(optuna: Any, settings: Settings, options: TuneOptions) -> tuple[Any, str]:
    """The study in its folder, and the metric that it optimises."""
    from tf_image_classification.workflows.setup.default_hooks import best_metric

    metric, is_better_higher = best_metric(settings)
    path = os.path.abspath(files.join(options.study_dir, "study.db"))
    # A path in a URL could not hold every character.
    connect = functools.partial(sqlite3.connect, path, check_same_thread=False)
    try:
        study = optuna.create_study(
            study_name="tfic",
            storage=optuna.storages.RDBStorage(
                "sqlite:///study.db", engine_kwargs={"creator": connect}
            ),
            direction="maximize" if is_better_higher else "minimize",
            pruner=_pruner(optuna, options.pruner),
            load_if_exists=True,
        )
    except (optuna.exceptions.OptunaError, _sqlalchemy_error()) as error:
        reason = str(error).splitlines()[0]
        raise DataError(
            f"{path} cannot be read as a study ({reason}). Restore it, or choose another "
            "--study_dir."
        ) from error
    return study, metric


def _sqlalchemy_error() -> type[Exception]:
    """The error of the library through which Optuna reads its database."""
    from sqlalchemy.exc import SQLAlchemyError  # late: it comes with Optuna

    found: type[Exception] = SQLAlchemyError
    return found


def _why_none_is_complete(study: Any, options: TuneOptions) -> str:
    """Why there is no best trial."""
    trials = _finished(study)
    if not trials:
        return f"No trial began within {options.timeout_secs:g} s. Raise --timeout_secs."
    reasons = [
        f"{trial.user_attrs[_FOLDER]}: {trial.user_attrs.get(_REASON) or 'ended by the pruner'}"
        for trial in trials[:3]
    ]
    return (
        f"None of the {len(trials)} trials in {options.study_dir} came to a value: "
        f"{'; '.join(reasons)}. Change the space, and choose another --study_dir."
    )


def _run_trial(
    optuna: Any,
    study: Any,
    trial: Any,
    spec: EstimatorSpec | None,
    settings: Settings,
    values: dict[str, Any],
    metric: str,
    options: TuneOptions,
) -> None:
    """Train once and report the result to the study."""
    folder = files.join(options.study_dir, trial.user_attrs[_FOLDER])
    shown = ", ".join(f"{name} {value}" for name, value in values.items())
    print(f"trial {trial.user_attrs[_FOLDER]}: {shown}")
    hook = PruningHook(trial, metric)
    state = optuna.trial.TrialState
    settings = settings.replace(**values, model_dir=folder)
    if spec is None:
        from tf_image_classification.workflows.setup import backbone_spec

        settings = backbone_spec.backbone_settings(settings)
        spec = backbone_spec.make_backbone_spec(settings)
    try:
        run(spec, settings, [hook])
    except NonFiniteLossError as error:
        trial.set_user_attr(_REASON, str(error).splitlines()[0])
        study.tell(trial, state=state.FAIL)
        return
    found = [line[metric] for line in ModelFolder(folder).evaluations()]
    numbers = [value for value in found if value is not None and math.isfinite(value)]
    if not numbers:
        trial.set_user_attr(_REASON, f"{metric} was never a number")
        study.tell(trial, state=state.FAIL)
    elif hook.was_pruned:
        study.tell(trial, state=state.PRUNED)
    else:
        better = max if study.direction == optuna.study.StudyDirection.MAXIMIZE else min
        study.tell(trial, better(numbers))


class PruningHook(Hook):
    """Reports each evaluation to the study, and ends a run that does not look good.

    Attributes:
        was_pruned: whether it did.
    """

    def __init__(self, trial: Any, metric: str) -> None:
        self.was_pruned = False
        self._trial = trial
        self._metric = metric

    def begin(self, run: Run) -> None:
        """Report the evaluations of an interrupted process."""
        for line in ModelFolder(run.model_dir).evaluations():
            if line[self._metric] is not None:
                self._trial.report(line[self._metric], line["step"])

    def after_evaluation(self, run: Run, evaluation: Any) -> None:
        """Report the metric, and stop the run if the study prunes it."""
        value = evaluation.scalars()[self._metric]
        if not math.isfinite(value):
            return
        self._trial.report(value, run.step)
        if self._trial.should_prune() and run.step < run.train_steps:
            self.was_pruned = True
            run.request_stop("other trials were better at this step")


def _optuna() -> Any:
    try:
        import optuna
    except ModuleNotFoundError as error:
        raise ConfigError(
            "Optuna is not installed. pip install 'tf_image_classification[tune]'"
        ) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    return optuna


def _pruner(optuna: Any, name: str) -> Any:
    if name == "median":
        return optuna.pruners.MedianPruner(n_startup_trials=3)
    if name == "hyperband":
        return optuna.pruners.HyperbandPruner()
    return optuna.pruners.NopPruner()


def _sampler(optuna: Any, name: str, seed: int) -> Any:
    """The sampler of trials that are not queued; a grid is queued as a whole."""
    if name == "tpe":
        return optuna.samplers.TPESampler(seed=seed, n_startup_trials=5)
    return optuna.samplers.RandomSampler(seed=seed)


def _grid_size(space: Sequence[Parameter]) -> int:
    return math.prod(len(parameter.choices) for parameter in space)


def _suggested(trial: Any, parameter: Parameter) -> Any:
    if parameter.choices:
        return trial.suggest_categorical(parameter.name, list(parameter.choices))
    assert parameter.low is not None and parameter.high is not None
    if OPTIONS[ALIASES.get(parameter.name, parameter.name)].kind is int:
        return trial.suggest_int(
            parameter.name, int(parameter.low), int(parameter.high), log=parameter.is_log
        )
    return trial.suggest_float(parameter.name, parameter.low, parameter.high, log=parameter.is_log)


def _check_same(
    study: Any, space: Sequence[Parameter], settings: Settings, options: TuneOptions
) -> None:
    """See that the folder's study is this one, or make it so when it is new."""
    if options.sampler == "grid" and not all(parameter.choices for parameter in space):
        raise ConfigError("A grid needs choices for every setting; a range has no end of values.")
    values = settings.values()
    fixed = {
        name: list(v) if isinstance(v := values[name], tuple) else v
        for name in sorted(settings.origins)
        if OPTIONS[name].group != "run" or name == "seed"
    }
    described = {
        "space": [dataclasses.asdict(parameter) for parameter in space],
        "fixed settings": fixed,
        "sampler": options.sampler,
        "pruner": options.pruner,
    }
    for name, value in json.loads(json.dumps(described)).items():
        before = study.user_attrs.get(name)
        if before is None:
            study.set_user_attr(name, value)
        elif before != value:
            raise RunMismatchError(
                f"{options.study_dir} holds another study: {name} was {json.dumps(before)}, and is "
                f"{json.dumps(value)} now. Use another --study_dir, or repeat it as it was."
            )


def _put_back_unfinished(optuna: Any, study: Any) -> None:
    """Queue a trial again whose process was killed, with its folder and settings."""
    for trial in study.get_trials(states=[optuna.trial.TrialState.RUNNING]):
        study.enqueue_trial(trial.params, user_attrs={_FOLDER: trial.user_attrs.get(_FOLDER, "")})
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)


def _finished(study: Any) -> list[Any]:
    """Trials that have come to an end of their own."""
    return [t for t in study.trials if t.value is not None or _is_pruned_or_failed(t)]


def _is_pruned_or_failed(trial: Any) -> bool:
    return trial.state.name == "PRUNED" or (
        trial.state.name == "FAIL" and _REASON in trial.user_attrs
    )


def _values_of(trial: Any) -> dict[str, Any]:
    return {ALIASES.get(name, name): value for name, value in trial.params.items()}


def _write_results(study: Any, settings: Settings, options: TuneOptions) -> None:
    """All trials as JSON lines, and the best one's settings as a file for ``--config``."""
    complete = [trial for trial in study.trials if trial.state.name == "COMPLETE"]
    is_higher = study.direction.name == "MAXIMIZE"
    complete.sort(key=lambda trial: trial.value, reverse=is_higher)
    ranks = {trial.number: rank for rank, trial in enumerate(complete, 1)}
    lines = [
        {
            "folder": trial.user_attrs[_FOLDER],
            "state": trial.state.name.lower(),
            "value": trial.value,
            "rank": ranks.get(trial.number),
            "reason": trial.user_attrs.get(_REASON, ""),
            "settings": _values_of(trial),
        }
        for trial in _finished(study)
    ]
    files.write_json_lines(files.join(options.study_dir, "trials.jsonl"), lines)
    if not complete:
        return
    values = settings.values()
    given = {
        name: list(v) if isinstance(v := values[name], tuple) else v
        for name in settings.origins
        if name != "model_dir"
    }
    best = given | _values_of(study.best_trial)
    text = f"# {study.best_trial.user_attrs[_FOLDER]}: {study.best_value}\n"
    text += yaml.safe_dump(best, sort_keys=False, allow_unicode=True)
    files.write_bytes(files.join(options.study_dir, "best.yml"), text.encode())


def _draw(optuna: Any, study: Any, options: TuneOptions) -> None:
    """Pictures of the study, as far as it has enough trials for them."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    folder = files.join(options.study_dir, "plots")
    files.make_folder(folder)
    charts = optuna.visualization.matplotlib
    complete = [trial for trial in study.trials if trial.state.name == "COMPLETE"]
    pictures = {"history": charts.plot_optimization_history}
    if len({tuple(trial.params.values()) for trial in complete}) > 1:
        pictures |= {"slice": charts.plot_slice, "importances": charts.plot_param_importances}
    for name, plot in pictures.items():
        # Not every plot is possible: importances need trials with different values.
        with warnings.catch_warnings(), contextlib.suppress(ValueError, RuntimeError):
            warnings.simplefilter("ignore")
            plot(study)
            pyplot.savefig(files.join(folder, f"{name}.png"), dpi=120, bbox_inches="tight")
        pyplot.close("all")


def table(study_dir: str, max_rows: int = 10) -> str:
    """The trials of a study from the best one on, a line each."""
    lines = files.read_json_lines(files.join(study_dir, "trials.jsonl"))
    complete = sorted(filter(lambda line: line["rank"], lines), key=lambda line: line["rank"])
    shown = [f"{len(lines)} trials, {len(complete)} complete; the best ones:"]
    for line in complete[:max_rows]:
        values = ", ".join(f"{name} {value}" for name, value in line["settings"].items())
        shown.append(f"  {line['value']:.4f}  {line['folder']}  {values}")
    return "\n".join(shown)
