"""A run that is ready to start: model, optimizer, step, input, loop and evaluation."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Collection, Sequence
from typing import Any

import keras
import tensorflow as tf

from tf_image_classification.config import Settings
from tf_image_classification.dataset.pipeline.bad_images import BadImage
from tf_image_classification.dataset.pipeline.distribute import DistributedBatches
from tf_image_classification.dataset.pipeline.protocols import BatchSource
from tf_image_classification.distributed.devices import check_batch_size, uses_xla
from tf_image_classification.distributed.workers import Workers
from tf_image_classification.errors import ConfigError
from tf_image_classification.estimator_specs import own_metrics
from tf_image_classification.evaluation.loop import Evaluation
from tf_image_classification.hooks.base import Hook
from tf_image_classification.hooks.checkpoints import LoadCheckpointHook
from tf_image_classification.labels import LabelSchema
from tf_image_classification.optim.optimizers import make_optimizer, prepare
from tf_image_classification.optim.param_groups import (
    freeze_layers,
    rate_factors,
    trainable_variables,
)
from tf_image_classification.optim.schedules import make_schedule
from tf_image_classification.system import signals
from tf_image_classification.training.length import Plan, plan_length
from tf_image_classification.training.run import TrainingRun
from tf_image_classification.training.state import TrainState, make_state
from tf_image_classification.training.step import RateFraction, StepFunction
from tf_image_classification.training.stepper import Stepper
from tf_image_classification.workflows.setup import batch_norm
from tf_image_classification.workflows.setup.context import RunContext
from tf_image_classification.workflows.setup.evaluator import make_evaluate, regularisation_of
from tf_image_classification.workflows.setup.losses import (
    log_variances_of,
    make_losses,
    make_training_losses,
)
from tf_image_classification.workflows.setup.model import build_model, make_forward
from tf_image_classification.workflows.setup.run_data import Data
from tf_image_classification.workflows.setup.slices import watched_slices
from tf_image_classification.workflows.setup.teachers import teacher_forward


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
        notes: notes on the model, in sentences.
    """

    run: TrainingRun
    state: TrainState
    plan: Plan
    schedule: Any
    evaluate_some: Callable[[int], Callable[[], Evaluation | None]] | None
    notes: tuple[str, ...] = ()


def assemble(
    context: RunContext,
    data: Data,
    hooks: Sequence[Hook],
    *,
    on_bad_images: Callable[[Sequence[BadImage]], None] | None = None,
    schedule: Any = None,
    pending: Callable[[Sequence[int]], Collection[int]] | None = None,
    before_writing: Callable[[], None] = lambda: None,
) -> Assembly:
    """Build model, optimizer, step and loop; nothing is read from the model folder.

    Args:
        context: the run.
        data: its examples.
        hooks: its hooks, in the order in which they are called.
        on_bad_images: called with images that were skipped.
        schedule: learning rate by step, in place of the one that the settings describe.
        pending: chooses the steps whose checkpoints an evaluator task still needs.
        before_writing: called before a checkpoint or an evaluation is written.

    Raises:
        ConfigError: the settings do not fit the data or the devices.
        SpecError: the spec breaks its contract.
    """
    assert data.train is not None
    settings, workers = context.settings, context.workers
    num_replicas = workers.strategy.num_replicas_in_sync
    check_batch_size(
        settings.data.batch_size, num_replicas, settings.training.gradient_accumulation_steps
    )
    _check_pairs(settings, num_replicas)
    plan = _plan(settings, data.train)
    model = build_model(context, data.train.image_shape)
    note = _set_up_batch_norm(context, model, hooks, plan)
    if settings.model.freeze_layers:
        freeze_layers(model, settings.model.freeze_layers)
    state, schedule = _optimizer_and_state(settings, workers, model, data.schema, plan, schedule)
    forward = make_forward(model, data.schema, settings)
    losses = make_losses(context, data.schema)

    def feed(source: BatchSource, *, is_training: bool) -> DistributedBatches:
        return DistributedBatches(
            source,
            workers.strategy,
            is_training=is_training,
            skip_bad_images=settings.data.on_bad_image == "skip",
            on_skip=on_bad_images,
            rank=workers.rank,
        )

    stepper = Stepper(
        state,
        StepFunction(
            state=state,
            schema=data.schema,
            forward=forward,
            losses=make_training_losses(context, data.train, data.schema),
            settings=settings.training,
            average_decay=settings.model.moving_average_decay,
            seed=settings.run.seed,
            num_replicas=num_replicas,
            on_device=data.train.on_device,
            teacher=teacher_forward(context, data.schema, data.train.image_shape)
            if settings.training.teacher
            else None,
            rate_fractions=_rate_fractions(model, state.trained, settings, hooks),
        ),
        workers,
        feed(data.train, is_training=True),
        batch_size=settings.data.batch_size,
        jit_compile=uses_xla(settings.training.jit_compile, num_replicas),
    )
    run = TrainingRun(
        settings=settings,
        schema=data.schema,
        plan=plan,
        state=state,
        stepper=stepper,
        workers=workers,
        hooks=hooks,
        owed=pending,
        before_writing=before_writing,
    )
    notes = (note,) if note else ()
    if data.evaluation is None:
        return Assembly(run, state, plan, schedule, None, notes)
    eval_feed = feed(data.evaluation, is_training=False)
    slices = watched_slices(settings, data)

    def evaluate_some(max_batches: int) -> Callable[[], Evaluation | None]:
        return make_evaluate(
            eval_feed,
            workers,
            forward,
            data.schema,
            metric_fn=functools.partial(own_metrics, context.spec, data.schema),
            loss_fn=losses,
            regularisation=lambda: regularisation_of(model),
            max_batches=max_batches,
            should_stop=lambda: bool(signals.received()),
            slices=slices,
            also=(settings.evaluation.best_metric,),
        )

    return Assembly(run, state, plan, schedule, evaluate_some, notes)


def _set_up_batch_norm(
    context: RunContext, model: keras.Model, hooks: Sequence[Hook], plan: Plan
) -> str:
    """Apply the settings of batch normalisation; returns a note, or ""."""
    own_hooks = getattr(context.spec, "__dict__", {}).values()  # as programs of 2018 keep theirs
    loaders = [h for h in (*hooks, *own_hooks) if isinstance(h, LoadCheckpointHook)]
    is_loaded_later = any(hook.checkpoint_path for hook in loaders)
    return batch_norm.set_up(
        model,
        context.settings,
        train_steps=plan.train_steps,
        has_warm_start=bool(context.settings.model.checkpoint_path) or is_loaded_later,
    )


def _optimizer_and_state(
    settings: Settings,
    workers: Workers,
    model: keras.Model,
    schema: LabelSchema,
    plan: Plan,
    schedule: Any,
) -> tuple[TrainState, Any]:
    """All variables of the run, and the learning rate by step."""
    with workers.strategy.scope():
        trained = trainable_variables(model, settings.model.trainable_scopes)
        schedule = schedule or make_schedule(
            settings.schedule, train_steps=plan.train_steps, steps_per_epoch=plan.steps_per_epoch
        )
        optimizer = make_optimizer(settings.optimizer, schedule, precision=settings.model.precision)
        log_variances = {}
        if settings.training.task_weights == "learned":
            log_variances = log_variances_of(schema)
            trained = [*trained, *log_variances.values()]
        prepare(optimizer, trained)
        state = make_state(
            model,
            optimizer,
            trained,
            with_averages=settings.model.moving_average_decay > 0,
            log_variances=log_variances,
        )
    return state, schedule


def _rate_fractions(
    model: keras.Model, trained: Sequence[keras.Variable], settings: Settings, hooks: Sequence[Hook]
) -> list[RateFraction | None]:
    """The learning-rate factor of each variable: of its layer times those of the hooks."""
    decay = settings.model.layer_decay
    factors = rate_factors(model, trained, decay)
    if decay != 1.0 and settings.is_chosen("layer_decay") and set(factors) == {1.0}:
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


def _check_pairs(settings: Settings, num_replicas: int) -> None:
    training = settings.training
    rows = settings.data.batch_size // (num_replicas * training.gradient_accumulation_steps)
    if (training.mixup_alpha or training.cutmix_alpha) and rows % 2:
        raise ConfigError(
            f"mixup_alpha and cutmix_alpha mix images in pairs, but batch_size "
            f"{settings.data.batch_size} gives each device {rows} at a time. Expected an even "
            f"number: use a batch_size of {2 * (settings.data.batch_size // 2 + 1)}."
        )


def _plan(settings: Settings, train: BatchSource) -> Plan:
    if train.num_examples is not None:
        return plan_length(settings, train.num_examples)
    if settings.training.train_steps is None:
        raise ConfigError(
            "The spec has its own input_fn, so the number of examples is not known. Give "
            "--train_steps."
        )
    return Plan(settings.training.train_steps, float(settings.training.train_steps))
