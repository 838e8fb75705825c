"""The task that the settings ask for: train, evaluate, plan, or evaluate beside a cluster.

result = run(spec, settings)

TensorFlow must not be used before the workers of a cluster are connected, so this module joins them
first and imports everything heavy afterwards.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tf_image_classification.config import Settings, check_needs
from tf_image_classification.distributed import cluster_spec
from tf_image_classification.system import screen, signals
from tf_image_classification.workflows.result import TrainResult
from tf_image_classification.workflows.setup.environment import join, prepare_tensorflow

if TYPE_CHECKING:
    from tf_image_classification.distributed.cluster_spec import Cluster
    from tf_image_classification.estimator_specs import EstimatorSpec
    from tf_image_classification.hooks import EvaluationHook
    from tf_image_classification.workflows.setup.context import Sources


def run(
    spec: EstimatorSpec,
    settings: Settings,
    hooks: Sequence[Any] = (),
    sources: Sources | None = None,
) -> TrainResult:
    """Train, evaluate or plan, depending on the settings.

    Args:
        spec: the user's spec.
        settings: all settings.
        hooks: hooks and Keras callbacks of the program.
        sources: sources that were found before, e.g. for the labels of a backbone spec.

    Raises:
        TficError: something is wrong; before the first step if it can be known then.
        RunInterrupted: a signal stopped the run.
    """
    settings, sources = _with_own_evaluation(spec, settings, sources)
    if settings.run.evaluate:
        return evaluate(spec, settings)
    cluster = cluster_spec.read_cluster(os.environ)
    if cluster is not None and cluster.is_evaluator:
        if settings.run.plan:
            return _exit_early(settings)
        return _follow(spec, settings, sources, cluster)
    if settings.run.plan:
        return _plan(spec, settings, sources)
    with signals.resumable(
        "before the first step. Nothing was lost",
        again="Start the same command again to train.",
    ):
        workers = join(settings)
        from tf_image_classification.workflows.setup.context import make_context
        from tf_image_classification.workflows.train import train

        return train(make_context(spec, settings, workers, sources), hooks, _metric_file_hooks())


def run_backbone(settings: Settings, hooks: Sequence[Any] = ()) -> TrainResult:
    """As ``run`` without a spec: a built-in backbone, with the labels of the data.

    Without ``model_dir`` the run's own folder below ``models`` is found or named.

    Raises:
        TficError: as ``run``; or the labels cannot be inferred from the data.
    """
    prepare_tensorflow(settings)
    from tf_image_classification.workflows.setup import backbone_spec
    from tf_image_classification.workflows.setup.context import Sources
    from tf_image_classification.workflows.setup.default_folder import with_default_folder
    from tf_image_classification.workflows.setup.earlier_model import with_earlier_model

    sources = Sources()
    settings, rehearsal = with_earlier_model(settings, sources)
    settings, line = with_default_folder(settings)
    settings = backbone_spec.backbone_settings(settings)
    spec = backbone_spec.make_backbone_spec(settings, sources)
    for note in filter(None, (line, rehearsal)):
        screen.say(note)
    return run(spec, settings, hooks, sources)


def evaluate(
    spec: EstimatorSpec | None,
    settings: Settings,
    group_column: str = "",
    keep_evaluation: str = "auto",
) -> TrainResult:
    """Evaluate the model of a folder on the whole evaluation set and print the result.

    Args:
        spec: the spec of the run, or None for the exported model.
        settings: all settings.
        group_column: column whose equal values belong together, or "".
        keep_evaluation: "auto", "yes" or "no".

    Raises:
        TficError: there is no model or no data, or one of them is unusable.
    """
    if is_evaluator_task():
        return _exit_early(settings)
    with signals.stage("before the evaluation was complete", again="", resumes=False):
        workers = join(settings)
        from tf_image_classification.workflows import messages
        from tf_image_classification.workflows.evaluate import evaluate_folder

        found = evaluate_folder(spec, settings, workers, group=group_column, choice=keep_evaluation)
    if found.analysis is not None:
        for note in found.notes:
            screen.say(note)
        print(messages.analysis_table(found.evaluation, found.step, found.analysis))
        screen.say(found.kept)
        if found.unknown:
            screen.say(found.unknown)
    if found.failure is not None and keep_evaluation == "yes":
        raise found.failure
    evaluation = found.evaluation
    return TrainResult(
        settings.run.model_dir,
        found.step,
        evaluation.scalars(),
        evaluation.arrays(),
        found.analysis.to_json() if found.analysis is not None else {},
    )


def is_evaluator_task() -> bool:
    """Whether this process is the evaluator task of a cluster."""
    cluster = cluster_spec.read_cluster(os.environ)
    return cluster is not None and cluster.is_evaluator


def _plan(spec: EstimatorSpec, settings: Settings, sources: Sources | None) -> TrainResult:
    """Print what a training would do, its time and its memory."""
    workers = join(settings)
    from tf_image_classification.workflows import plan
    from tf_image_classification.workflows.setup import recipe
    from tf_image_classification.workflows.setup.context import make_context

    context, _ = recipe.settle(make_context(spec, settings, workers, sources))
    text = plan.describe(context)
    if workers.is_writer:
        screen.say(text, is_result=True)
    return TrainResult(settings.run.model_dir, 0, {})


def _follow(
    spec: EstimatorSpec, settings: Settings, sources: Sources | None, cluster: Cluster
) -> TrainResult:
    """Evaluate the checkpoints of a cluster's workers while they train."""
    with signals.resumable(
        "in the evaluator task",
        again="Start it again with the workers; it continues with the checkpoints that are not "
        "evaluated yet.",
    ):
        prepare_tensorflow(settings)
        from tf_image_classification.distributed.devices import make_strategy
        from tf_image_classification.distributed.workers import Workers
        from tf_image_classification.workflows.evaluate_continuously import evaluate_continuously
        from tf_image_classification.workflows.setup.context import make_context

        alone = make_context(spec, settings, Workers(make_strategy("auto")), sources)
        return evaluate_continuously(alone, cluster, _metric_file_hooks())


def _exit_early(settings: Settings) -> TrainResult:
    print("This evaluator task exits: in this mode the workers evaluate.")
    return TrainResult(settings.run.model_dir, 0, {})


def _with_own_evaluation(
    spec: EstimatorSpec, settings: Settings, sources: Sources | None
) -> tuple[Settings, Sources | None]:
    """The settings, with a part of the training set to evaluate on where no other is given.

    Also the sources, with those that were found for it.
    """
    if spec.has_own_input:  # only it knows its examples
        check_needs(settings)
        return settings, sources
    from tf_image_classification.estimator_specs import schema_of
    from tf_image_classification.workflows.setup import evaluation_split  # late: for TensorFlow
    from tf_image_classification.workflows.setup.context import Sources

    schema_of(spec)  # its errors come before any data are read
    sources = sources or Sources()
    return evaluation_split.with_own_evaluation(settings, sources), sources


def _metric_file_hooks() -> list[EvaluationHook]:
    """The hook that reports evaluations to a tuning service, if the environment names its file."""
    path = os.environ.get("CLOUD_ML_HP_METRIC_FILE", "")
    if not path:
        return []
    from tf_image_classification.hooks import MetricFileHook

    return [MetricFileHook(path, os.environ.get("CLOUD_ML_TRIAL_ID", "0"))]
