"""Putting a run together: model, optimizer, step and loop from a spec, settings and examples."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tf_image_classification import backbones, keras_settings
from tf_image_classification.batches import Batch
from tf_image_classification.checkpoints.warm_start import (
    WarmStartReport,
    load_values,
    warm_start,
)
from tf_image_classification.config import IMAGENET, Settings
from tf_image_classification.dataset.pipeline.distribute import Feed
from tf_image_classification.dataset.pipeline.pipeline import BadImage
from tf_image_classification.distributed.devices import check_batch_size, uses_xla
from tf_image_classification.distributed.workers import Workers
from tf_image_classification.errors import ConfigError
from tf_image_classification.estimator_specs import (
    EstimatorSpec,
    call_model_fn,
    logits_of,
    own_losses,
    own_metrics,
)
from tf_image_classification.evaluation.loop import Evaluation, Slices, conclude, sum_batches
from tf_image_classification.hooks.base import Hook
from tf_image_classification.hooks.checkpoints import LoadCheckpointHook
from tf_image_classification.labels import LabelSchema
from tf_image_classification.optim.losses import label_losses
from tf_image_classification.optim.optimizers import make_optimizer, prepare
from tf_image_classification.optim.param_groups import rate_factors, trainable_variables
from tf_image_classification.optim.schedules import make_schedule
from tf_image_classification.system import signals
from tf_image_classification.training.length import Plan, plan_length
from tf_image_classification.training.run import TrainingRun
from tf_image_classification.training.state import TrainState, make_state
from tf_image_classification.training.step import Forward, RateFraction, StepFunction
from tf_image_classification.training.stepper import Stepper
from tf_image_classification.workflows.setup import batch_norm
from tf_image_classification.workflows.setup.run_data import Data, Input
from tf_image_classification.workflows.setup.slices import watched_slices


def build_model(
    spec: EstimatorSpec,
    settings: Settings,
    image_shape: tuple[int, int, int],
    strategy: tf.distribute.Strategy,
) -> keras.Model:
    """The spec's model with initial weights that the seed decides, under stable names.

    Raises:
        SpecError: ``model_fn`` does not return a Keras model.
    """
    keras_settings.require_policy(settings.model.precision, where="The program")
    keras.utils.clear_session(free_memory=False)  # layer names count from one again
    keras.utils.set_random_seed(settings.run.seed)
    with strategy.scope():
        return call_model_fn(spec, settings, image_shape)


def make_forward(
    model: Callable[..., Any], schema: LabelSchema, settings: Settings | None = None
) -> Forward:
    """Images and whether training, to float32 logits by label; traced by its callers.

    With settings the logits of an evaluation are the means over the views that they ask for.
    """
    augmentation = settings.evaluation.test_time_augmentation if settings else "none"

    def one_view(images: tf.Tensor, training: bool) -> dict[str, tf.Tensor]:
        return logits_of(schema, model, images, training=training)

    def forward(images: tf.Tensor, training: bool) -> dict[str, tf.Tensor]:
        if images.dtype.is_integer:
            images = tf.cast(images, tf.float32)
        if training or augmentation == "none":
            return one_view(images, training)
        of_views = [one_view(view, False) for view in views(images, augmentation)]
        return {
            name: tf.add_n([logits[name] for logits in of_views]) / len(of_views)
            for name in schema.names
        }

    return forward


def views(images: tf.Tensor, augmentation: str) -> list[tf.Tensor]:
    """The views of images that an evaluation averages over (as in airbench, arXiv 2404.00498).

    Args:
        images: [B, H, W, C].
        augmentation: "flip" or "flip_shift".
    """
    shown = [images]
    if augmentation == "flip_shift":
        height, width = images.shape[1], images.shape[2]
        by = max(1, round(min(height, width) / 32))
        wide = tf.pad(images, [[0, 0], [by, by], [by, by], [0, 0]], mode="SYMMETRIC")
        shown += [wide[:, d : d + height, d : d + width] for d in (0, 2 * by)]
    return [*shown, *(tf.reverse(view, [2]) for view in shown)]


def make_losses(
    spec: EstimatorSpec,
    schema: LabelSchema,
    settings: Settings,
    class_weights: Mapping[str, npt.NDArray[Any]] | None = None,
) -> Callable[..., Mapping[str, tf.Tensor]]:
    """Labels and logits to per-example losses: the spec's, or the default by label kind.

    With ``class_weights``, by label name, each example's loss is multiplied by its class's.
    """

    def losses(
        labels: Mapping[str, tf.Tensor], logits: Mapping[str, tf.Tensor]
    ) -> Mapping[str, tf.Tensor]:
        own = own_losses(spec, schema, labels, logits)
        if own is None:
            own = label_losses(schema, settings.training, labels, logits)
        return {
            name: loss * tf.gather(class_weights[name], tf.maximum(labels[name], 0))
            if class_weights and name in class_weights
            else loss
            for name, loss in own.items()
        }

    return losses


def balanced_weights(train: Input, schema: LabelSchema) -> dict[str, npt.NDArray[Any]]:
    """For each class label the weights with which all classes count alike; their mean is 1.

    Over the training examples, as scikit-learn's ``class_weight="balanced"``: n / (classes · n_c).

    Raises:
        ConfigError: the labels of the training examples are not known beforehand.
    """
    columns = getattr(getattr(train, "source", None), "columns", None)
    if columns is None:
        raise ConfigError(
            "class_weights balanced needs to count the classes before: use input_mode indexed, and "
            "no input_fn of the spec's own."
        )
    weights = {}
    for label in schema.class_labels:
        column = columns[label.name]
        counts = np.bincount(column.values[column.present], minlength=label.depth)
        num_present = max(1, int((counts > 0).sum()))
        weights[label.name] = (counts.sum() / (num_present * np.maximum(counts, 1))).astype("f4")
    return weights


def make_evaluate(
    feed: Feed,
    workers: Workers,
    forward: Forward,
    schema: LabelSchema,
    *,
    metric_fn: Any,
    loss_fn: Any,
    regularisation: Callable[[], float] = lambda: 0.0,
    max_batches: int = 0,
    should_stop: Callable[[], bool] = lambda: False,
    keep: Callable[[Batch, Mapping[str, tf.Tensor]], None] | None = None,
    slices: Slices | None = None,
    also: Collection[str] = (),
) -> Callable[[], Evaluation | None]:
    """A function that evaluates; its graph is traced once, at the first call.

    Args:
        feed: evaluation batches.
        workers: those that share the work; each gets the evaluation of the whole.
        forward: images to logits.
        schema: the labels.
        metric_fn: as ``evaluate_batches``.
        loss_fn: as ``evaluate_batches``.
        regularisation: the part of the loss that does not depend on examples.
        max_batches: as ``Feed.evaluation``.
        should_stop: asked between batches; when it says so on any worker, the function returns
            None on all.
        keep: called with each of this worker's batches and its logits.
        slices: as ``evaluate_batches``.
        also: as ``evaluate_batches``.
    """
    strategy = workers.strategy
    predict = tf.function(lambda images: strategy.run(forward, args=(images, False)))
    traced_losses = None if loss_fn is None else tf.function(loss_fn)

    def local_batches() -> Iterator[tuple[Batch, Mapping[str, tf.Tensor]]]:
        for batch in feed.evaluation(max_batches):
            if should_stop():
                raise _Stopped
            logits = predict(batch.images)
            for replica in range(len(strategy.experimental_local_results(batch.ids))):
                local = tf.nest.map_structure(
                    lambda x, r=replica: strategy.experimental_local_results(x)[r], (batch, logits)
                )
                if keep is not None:
                    keep(Batch(*local[0]), local[1])
                yield Batch(*local[0]), local[1]

    def evaluate() -> Evaluation | None:
        sums = None
        with contextlib.suppress(_Stopped):
            how: dict[str, Any] = {"metric_fn": metric_fn, "loss_fn": traced_losses}
            sums = sum_batches(local_batches(), schema, **how, slices=slices, also=also)
        if workers.exchange([sums is None]).any():
            return None
        assert sums is not None
        if workers.count > 1:
            sums = sums.merged_over(workers.exchange)
        return conclude(sums, schema, regularisation=regularisation())

    return evaluate


class _Stopped(Exception):
    """An evaluation was left in the middle because the process is to stop."""


def regularisation_of(model: keras.Model) -> float:
    """The losses that the model's variables alone decide (weight regularisation).

    Losses that a layer computes from a batch belong to the training alone: in an evaluation they
    would depend on how the examples are put into batches.
    """
    regularised = [v for v in model.trainable_variables if v.regularizer is not None]
    return float(sum(float(v.regularizer(v)) for v in regularised))


@dataclasses.dataclass(frozen=True)
class Assembly:
    """A run that can start.

    Attributes:
        run: the loop with its state.
        state: the variables.
        plan: the run's length.
        schedule: step to learning rate.
        evaluate_some: number of batches (0: all) to a function that evaluates the model as it is;
            None without evaluation examples.
        notes: what the user should know of the model, in sentences.
    """

    run: TrainingRun
    state: TrainState
    plan: Plan
    schedule: Any
    evaluate_some: Callable[[int], Callable[[], Evaluation | None]] | None
    notes: tuple[str, ...] = ()


def assemble(
    spec: EstimatorSpec,
    settings: Settings,
    data: Data,
    workers: Workers,
    hooks: Sequence[Hook],
    *,
    on_bad_images: Callable[[Sequence[BadImage]], None] | None = None,
    schedule: Any = None,
    owed: Callable[[Sequence[int]], Collection[int]] | None = None,
    before_writing: Callable[[], None] = lambda: None,
) -> Assembly:
    """Build model, optimizer, step and loop; nothing is read from the model folder.

    ``schedule`` takes the place of the settings' learning rate. ``owed`` chooses steps whose
    checkpoints must stay, for an evaluator. ``before_writing`` is called before a regular
    checkpoint or an evaluation is written.

    Raises:
        ConfigError: the settings do not fit the data or the devices.
        SpecError: the spec breaks a promise.
    """
    assert data.train is not None
    strategy = workers.strategy
    plan = _plan(settings, data.train)
    schema, image_shape = data.schema, data.train.image_shape
    num_replicas = strategy.num_replicas_in_sync
    check_batch_size(
        settings.data.batch_size, num_replicas, settings.training.gradient_accumulation_steps
    )
    _check_pairs(settings, num_replicas)
    model = build_model(spec, settings, image_shape, strategy)
    kept = getattr(spec, "__dict__", {}).values()  # where programs of 2018 have such a hook
    loaders = [h for h in (*hooks, *kept) if isinstance(h, LoadCheckpointHook)]
    is_loaded_later = any(hook.checkpoint_path for hook in loaders)
    about_batch_norm = batch_norm.set_up(
        model,
        settings,
        train_steps=plan.train_steps,
        has_warm_start=bool(settings.model.checkpoint_path) or is_loaded_later,
    )
    with strategy.scope():
        trained = trainable_variables(model, settings.model.trainable_scopes)
        schedule = schedule or make_schedule(
            settings.schedule, train_steps=plan.train_steps, steps_per_epoch=plan.steps_per_epoch
        )
        optimizer = make_optimizer(settings.optimizer, schedule, precision=settings.model.precision)
        log_variances = {}
        if settings.training.task_weights == "learned":
            log_variances = _log_variances(spec, schema)
            trained = [*trained, *log_variances.values()]
        prepare(optimizer, trained)
        decay = settings.model.moving_average_decay
        state = make_state(
            model, optimizer, trained, with_averages=decay > 0, log_variances=log_variances
        )
    forward = make_forward(model, schema, settings)
    losses = make_losses(spec, schema, settings)
    training_losses = losses
    if settings.training.class_weights == "balanced":
        weights = balanced_weights(data.train, schema)
        training_losses = make_losses(spec, schema, settings, weights)

    def feed(source: Input, *, is_training: bool) -> Feed:
        return Feed(
            source,
            strategy,
            is_training=is_training,
            skip_bad_images=settings.data.on_bad_image == "skip",
            on_skip=on_bad_images,
            rank=workers.rank,
        )

    stepper = Stepper(
        state,
        StepFunction(
            state=state,
            schema=schema,
            forward=forward,
            losses=training_losses,
            settings=settings.training,
            average_decay=decay,
            seed=settings.run.seed,
            num_replicas=num_replicas,
            on_device=getattr(data.train, "on_device", None),
            rate_fractions=_rate_fractions(model, trained, settings, hooks),
        ),
        workers,
        feed(data.train, is_training=True),
        batch_size=settings.data.batch_size,
        jit_compile=uses_xla(settings.training.jit_compile, num_replicas),
    )
    run = TrainingRun(
        settings=settings,
        schema=schema,
        plan=plan,
        state=state,
        stepper=stepper,
        workers=workers,
        hooks=hooks,
        owed=owed,
        before_writing=before_writing,
    )
    notes = (about_batch_norm,) if about_batch_norm else ()
    if data.evaluation is None:
        return Assembly(run, state, plan, schedule, None, notes)
    eval_feed = feed(data.evaluation, is_training=False)
    slices = watched_slices(settings, data)

    def evaluate_some(max_batches: int) -> Callable[[], Evaluation | None]:
        return make_evaluate(
            eval_feed,
            workers,
            forward,
            schema,
            metric_fn=functools.partial(own_metrics, spec, schema),
            loss_fn=losses,
            regularisation=lambda: regularisation_of(model),
            max_batches=max_batches,
            should_stop=lambda: bool(signals.received()),
            slices=slices,
            also=(settings.evaluation.best_metric,),
        )

    return Assembly(run, state, plan, schedule, evaluate_some, notes)


def _log_variances(spec: EstimatorSpec, schema: LabelSchema) -> dict[str, keras.Variable]:
    """A variable for each label, at 0.

    Raises:
        ConfigError: there is one label only, whose loss has nothing to be weighed against.
    """
    if len(schema.labels) < 2:
        raise ConfigError("task_weights learned has no effect with one label. Remove it.")
    return {
        label.name: keras.Variable(0.0, dtype="float32", name=f"log_variance_{label.name}")
        for label in schema
    }


def _rate_fractions(
    model: keras.Model, trained: Sequence[keras.Variable], settings: Settings, hooks: Sequence[Hook]
) -> list[RateFraction | None]:
    """For each variable the product of its layer's factor and of what the hooks give it."""
    decay = settings.model.layer_decay
    factors = rate_factors(model, trained, decay)
    is_given = settings.origin("layer_decay") not in ("default", "recipe")
    if decay != 1.0 and is_given and set(factors) == {1.0}:
        raise ConfigError(
            "layer_decay has no effect: only outputs (the layers called logits) are trained, which "
            "have the full rate. Remove it."
        )

    def share(variable: keras.Variable, factor: float) -> RateFraction | None:
        of_hooks = [s for hook in hooks if (s := hook.rate_fraction(variable.path)) is not None]
        if factor == 1.0 and not of_hooks:
            return None
        return lambda step: tf.reduce_prod(
            [factor, *(tf.cast(of_hook(step), tf.float32) for of_hook in of_hooks)]
        )

    return [share(variable, factor) for variable, factor in zip(trained, factors, strict=True)]


def start_from_checkpoint(model: keras.Model, settings: Settings, data: Data) -> WarmStartReport:
    """Give a model the weights that ``checkpoint_path`` names; says what became of each variable.

    Raises:
        CheckpointError: as ``warm_start``.
        ConfigError: Keras has no weights for the backbone, or there is none.
    """
    source = settings.model.checkpoint_path
    scopes = {
        "restore_scopes": settings.model.checkpoint_restore_scopes,
        "exclude_scopes": settings.model.checkpoint_exclude_scopes,
    }
    if source != IMAGENET:
        averages = settings.model.checkpoint_averages
        return warm_start(
            model,
            source,
            with_averages=averages,
            schema=data.schema,
            image_shape=data.train.image_shape if data.train is not None else None,
            **scopes,
        )
    if not settings.backbone_spec.backbone:
        raise ConfigError("checkpoint_path imagenet needs a backbone. Name a file of weights.")
    values = backbones.imagenet_values(settings.backbone_spec.backbone)
    return load_values(
        model, values, f"Keras's weights of {settings.backbone_spec.backbone}", **scopes
    )


def _check_pairs(settings: Settings, num_replicas: int) -> None:
    training = settings.training
    rows = settings.data.batch_size // (num_replicas * training.gradient_accumulation_steps)
    if (training.mixup_alpha or training.cutmix_alpha) and rows % 2:
        raise ConfigError(
            f"mixup_alpha and cutmix_alpha mix images in pairs, but batch_size "
            f"{settings.data.batch_size} gives each device {rows} at a time. Expected an even "
            f"number: use a batch_size of {2 * (settings.data.batch_size // 2 + 1)}."
        )


def _plan(settings: Settings, train: Input) -> Plan:
    if train.num_examples is not None:
        return plan_length(settings, train.num_examples)
    if settings.training.train_steps is None:
        raise ConfigError(
            "The spec has its own input_fn, so the number of examples is not known. Give "
            "--train_steps."
        )
    return Plan(settings.training.train_steps, float(settings.training.train_steps))
