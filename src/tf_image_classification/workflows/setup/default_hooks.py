"""The default hooks of a run and their triggers, from the settings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import keras

from tf_image_classification import hooks
from tf_image_classification.config import Settings
from tf_image_classification.dataset.readers import LeftOut
from tf_image_classification.errors import ConfigError
from tf_image_classification.estimator_specs import EstimatorSpec
from tf_image_classification.hooks import EvaluatedRun, EvaluationHook, Every, Hook, Run
from tf_image_classification.labels import LabelSchema
from tf_image_classification.metrics.confusion import draw_confusion_matrix
from tf_image_classification.metrics.metric_direction import higher_is_better
from tf_image_classification.model_folder import ModelFolder, evaluation_line
from tf_image_classification.system import files
from tf_image_classification.workflows.setup.context import RunContext
from tf_image_classification.workflows.setup.input_wait import InputWaitHook

if TYPE_CHECKING:
    from tf_image_classification.dataset.pipeline.bad_images import BadImage
    from tf_image_classification.workflows.setup.run_data import Data


_MOST_LINES = 5  # for bad images that are found together


def all_hooks(
    context: RunContext,
    data: Data,
    own: Sequence[Any] = (),
    *,
    is_evaluated_apart: bool = False,
) -> list[Hook]:
    """The hooks of a training in calling sequence; ``own`` may hold Keras callbacks.

    With an evaluator task a checkpoint is saved wherever an evaluation is wanted.

    Saving comes last, after the caller's own hooks, so that a checkpoint holds their state.
    """
    settings = context.settings
    found: list[Hook] = [hooks.NonFiniteLossHook()]
    if settings.run.progress:
        found.append(hooks.ProgressHook())
    if data.train is not None and data.train.as_pipeline is not None:
        found.append(InputWaitHook(data.train.as_pipeline))
    found += summary_hooks(settings)
    every = settings.checkpoints.save_summary_steps
    found += [hooks.tracker_hook(t, Every(steps=every)) for t in settings.checkpoints.trackers]
    if data.evaluation is not None:
        record, best = evaluation_hooks(context)
        patience = settings.training.early_stopping_patience
        stopping = [hooks.EarlyStoppingHook(*best_metric(settings), patience)] if patience else []
        found += [record, *stopping, best]
    saving = [hooks.CheckpointHook(when_to_save(settings))]
    if is_evaluated_apart and settings.evaluation.eval_every_steps is not None:
        saving.append(hooks.CheckpointHook(when_to_evaluate(settings), at_ends=False))
    return [*found, *map(_as_hook, own), *saving]


def summary_hooks(settings: Settings) -> list[Hook]:
    """The hook that writes TensorBoard logs, unless they are switched off."""
    steps = settings.checkpoints.save_summary_steps
    return [hooks.SummaryHook(Every(steps=steps))] if steps else []


def evaluation_hooks(context: RunContext) -> tuple[EvaluationHook, EvaluationHook]:
    """The hook that records evaluations, and the one that keeps the best checkpoint."""
    settings = context.settings
    record = EvaluationRecordHook(context.folder, settings.evaluation.output_cm_folder)
    return record, hooks.BestCheckpointHook(*best_metric(settings))


def _as_hook(own: Any) -> Hook:
    if isinstance(own, Hook):
        return own
    if isinstance(own, keras.callbacks.Callback):
        return hooks.KerasCallbackHook(own)
    raise ConfigError(
        f"hooks holds {own!r}, expected a tf_image_classification.hooks.Hook or a Keras callback."
    )


class KeptHooks(Hook):
    """The hooks of the first version that a spec keeps on itself, called when the run begins.

    The programs of 2018 make them in ``get_model_fn``: ``self.load_checkpoint_hook``.

    Attributes:
        spec: the spec.
        given: hooks that are called anyway.
    """

    on_every_worker = True

    def __init__(self, spec: EstimatorSpec, given: Sequence[Any]) -> None:
        self.spec = spec
        self.given = given

    def begin(self, run: Run) -> None:
        """Call their ``begin``."""
        kinds = (hooks.LoadCheckpointHook, hooks.IteratorInitializerHook)
        for kept in list(getattr(self.spec, "__dict__", {}).values()):
            if isinstance(kept, kinds) and not any(kept is other for other in self.given):
                kept.begin(run)


def when_to_save(settings: Settings) -> Every:
    """The trigger of regular checkpoints."""
    if settings.checkpoints.save_checkpoints_steps is not None:
        return Every(steps=settings.checkpoints.save_checkpoints_steps)
    secs = settings.checkpoints.save_checkpoints_secs
    return Every(secs=600.0 if secs is None else max(secs, 1e-9))


def when_to_evaluate(settings: Settings) -> Every:
    """The trigger of evaluations during training."""
    if settings.evaluation.eval_every_steps is not None:
        return Every(steps=settings.evaluation.eval_every_steps)
    return Every(secs=max(settings.evaluation.eval_throttle_secs, 1e-9))


def best_metric(settings: Settings) -> tuple[str, bool]:
    """The metric that chooses the best checkpoint, and whether more of it is better.

    The default is the loss: every evaluation has it, whatever metrics the spec gives.

    Raises:
        ConfigError: the direction of a metric cannot be inferred from its name.
    """
    name = settings.evaluation.best_metric or "loss"
    mode = settings.evaluation.best_mode
    return name, higher_is_better(name) if mode == "auto" else mode == "max"


class EvaluationRecordHook(EvaluationHook):
    """Appends every evaluation to ``metrics.jsonl`` and draws confusion matrices.

    Attributes:
        folder: the model folder.
        picture_folder: folder for the PNG of each class label, or "".
    """

    def __init__(self, folder: ModelFolder, picture_folder: str) -> None:
        self.folder = folder
        self.picture_folder = picture_folder

    def begin(self, run: EvaluatedRun) -> None:
        """Create the folder for confusion matrices; fails before the training if it cannot."""
        if self.picture_folder:
            files.make_folder(self.picture_folder)

    def after_evaluation(self, run: EvaluatedRun, evaluation: Any) -> None:
        """Write them."""
        line = evaluation_line(run.step, evaluation.num_examples, evaluation.metrics)
        self.folder.write_evaluations([*self.folder.evaluations(), line])
        if self.picture_folder:
            write_confusion_pictures(self.picture_folder, run.schema, evaluation)


def write_confusion_pictures(folder: str, schema: LabelSchema, evaluation: Any) -> list[str]:
    """The confusion matrix of each class label as a PNG; returns the paths."""
    files.make_folder(folder)
    paths = []
    for name, matrix in evaluation.confusion.items():
        png = draw_confusion_matrix(matrix, schema[name].named_classes(), title=name)
        paths.append(files.join(folder, f"confusion_matrix_{name.replace('/', '_')}.png"))
        files.write_bytes(paths[-1], png)
    return paths


class BadImageList:
    """The list of skipped images in the model folder.

    Attributes:
        folder: the model folder.
        rank: of the worker that found them; each worker has its own list.
    """

    def __init__(self, folder: ModelFolder, rank: int = 0) -> None:
        self.folder = folder
        self.rank = rank
        self._found: dict[str, str] = {}

    def __call__(self, bad_images: Sequence[BadImage | LeftOut]) -> None:
        """Add these images."""
        new = {bad.where: bad.reason for bad in bad_images if bad.where not in self._found}
        self._found |= new
        known = {line["where"]: line["reason"] for line in self.folder.read_bad_images(self.rank)}
        merged = known | self._found
        self.folder.write_bad_images(
            [{"where": where, "reason": merged[where]} for where in sorted(merged)], self.rank
        )
        for where, reason in list(new.items())[:_MOST_LINES]:
            print(f"skipped a bad image: {where}: {reason}")
        if new:
            name = self.folder.bad_images_name(self.rank)
            print(f"{len(merged)} bad images were skipped so far; all are in {name}")
