"""Hyperparameters from a built-in recipe; any flag overrides it.

choices = choose(Facts(num_images=300, can_be_smoothed=True, has_warm_start=True))
print(describe(choices))
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from typing import Any

import numpy as np
import tensorflow as tf

from tf_image_classification.backbone_spec import BackboneSpec
from tf_image_classification.batches import evenly_spaced
from tf_image_classification.config import OPTIONS, RECIPE_STRETCH
from tf_image_classification.errors import ConfigError
from tf_image_classification.labels.schema import SINGLE_LABEL
from tf_image_classification.run_manifest import RunManifest
from tf_image_classification.workflows.setup import run_data
from tf_image_classification.workflows.setup.context import RunContext

ORIGIN = "recipe"
_SMALL = 20_000  # images; below this BiT calls a data set small
_FEW = 2_000  # images
_SMALL_SIDE = 96  # pixels; below this it calls images small
_LOOKED_AT = 32  # images
_POINTS = 50  # of the curves of a run


@dataclasses.dataclass(frozen=True)
class Facts:
    """The facts that the choices depend on.

    Attributes:
        num_images: training images.
        can_be_smoothed: whether label smoothing changes the loss.
        has_warm_start: whether the model starts from a checkpoint.
        is_backbone_spec: whether the spec is the built-in one, with built-in augmentation.
        is_indexed: whether the examples have random access, which ``head_phase`` needs.
        batch_size: examples in a batch where it is given, or None.
        batch_parts: parts that a batch is computed in.
        train_steps: steps of the run where they are given, or None.
        epochs: epochs of the run where they are given, or None.
        image_side: median of the shorter sides of some training images, in pixels, or None.
        has_evaluation: whether there is an evaluation set.
        is_one_class: whether the only label is single-label.
        trains_all: whether no variables were chosen to be trained.
    """

    num_images: int
    can_be_smoothed: bool
    has_warm_start: bool
    is_backbone_spec: bool = True
    is_indexed: bool = True
    batch_size: int | None = None
    batch_parts: int = 1
    train_steps: int | None = None
    epochs: float | None = None
    image_side: int | None = None
    has_evaluation: bool = False
    is_one_class: bool = False
    trains_all: bool = True


@dataclasses.dataclass(frozen=True)
class Choice:
    """One setting.

    Attributes:
        name: its name.
        value: its value.
        reason: why, with the source.
    """

    name: str
    value: Any
    reason: str


def settle(context: RunContext) -> tuple[RunContext, str]:
    """The run with the recipe's choice for every option that the user did not set, and a summary.

    Raises:
        ConfigError: the number of training images is not known.
        DataError: the examples cannot be read.
    """
    spec, settings = context.spec, context.settings
    if settings.backbone_spec.recipe == "none":
        return context, ""
    manifest = context.folder.read_manifest()
    data = run_data.read_data(context, manifest.schema if manifest else None)
    num_images = data.train.num_examples if data.train is not None else None
    if num_images is None:
        raise ConfigError(
            "recipe auto needs to know the number of training images: give --train_metadata, and "
            "no input_fn of the spec's own."
        )
    facts = Facts(
        num_images=num_images,
        can_be_smoothed=settings.training.loss == "cross_entropy"  # the others have no smoothing
        and any(label.can_be_smoothed for label in data.schema),
        has_warm_start=bool(settings.model.checkpoint_path),
        is_backbone_spec=isinstance(spec, BackboneSpec),
        is_indexed=settings.data.input_mode == "indexed",
        batch_size=settings.data.batch_size if settings.is_chosen("batch_size") else None,
        batch_parts=settings.training.gradient_accumulation_steps,
        train_steps=settings.training.train_steps,
        epochs=settings.training.epochs,
        image_side=_usual_side(data) if settings.origin("image_size") == "backbone" else None,
        has_evaluation=data.evaluation is not None,
        is_one_class=[label.kind for label in data.schema] == [SINGLE_LABEL],
        trains_all=not settings.model.trainable_scopes,
    )
    choices = choose(facts)
    if manifest is not None:
        choices = _as_begun(choices, manifest)
    values = {c.name: c.value for c in choices}
    settled = settings.with_choices(values, ORIGIN, over=("backbone",))
    if isinstance(spec, BackboneSpec):
        spec = BackboneSpec(spec.class_dict, settled.backbone_spec)
    chosen = [c for c in choices if settled.origin(c.name) == ORIGIN]
    return context.replace(spec=spec, settings=settled), describe(chosen)


def _usual_side(data: run_data.Data) -> int | None:
    """The median of the shorter sides of some training images, in pixels; None: unknown."""
    pipeline = data.train.as_pipeline if data.train is not None else None
    if pipeline is None or pipeline.table is None:
        return None
    table = pipeline.table
    numbers = evenly_spaced(table.num_examples, _LOOKED_AT)
    sides = []
    for encoded in table.fetch(tf.constant(numbers)):
        with contextlib.suppress(
            tf.errors.InvalidArgumentError
        ):  # reported when the training reads it
            shape = pipeline.preprocessor.decode(encoded).shape
            sides.append(min(shape[:2]))
    return int(np.median(sides)) if sides else None


def _as_begun(choices: list[Choice], manifest: RunManifest) -> list[Choice]:
    """Keep the choices that a run began with, e.g. when its length changes.

    One that was begun by an earlier version gets no choices that the earlier recipe did not make.
    """
    kept = {name for name, origin in manifest.origins.items() if origin == ORIGIN}
    return [
        Choice(c.name, manifest.settings[c.name], "as the run began") if c.name in kept else c
        for c in choices
        if c.name in manifest.origins
    ]


def choose(facts: Facts) -> list[Choice]:
    """The settings for a run; the same facts always give the same ones."""
    choices = _fine_tuning(facts) if facts.has_warm_start else _from_scratch(facts)
    return choices + _of_curves(choices, facts) + _of_evaluations(facts)


def _fine_tuning(facts: Facts) -> list[Choice]:
    n, batch = facts.num_images, _batch_size(facts)
    epochs = float(round(min(20.0, max(3.0, 20 * math.sqrt(500 / n)))))
    steps = _steps(facts, batch, epochs)
    choices = [
        Choice("batch_size", batch, _why_this_batch(facts)),
        Choice(
            "epochs",
            epochs,
            "20 up to 500 images, then decreasing with their square root (AutoGluon: 20)",
        ),
        Choice("optimizer", "adamw", "AutoGluon, LightlyTrain"),
        Choice(
            "learning_rate",
            round(5e-4 * math.sqrt(batch / 32), 6),
            _why_this_rate(5e-4, 32, batch),
        ),
        Choice("weight_decay", 1e-3, "AutoGluon"),
        Choice("learning_rate_decay_type", "cosine", "AutoGluon, big_vision"),
        Choice(
            "warmup_steps", steps // 10, f"{steps // 10 / steps:.0%} of the run (AutoGluon: 10%)"
        ),
        Choice("gradient_clip_norm", 1.0, "AutoGluon, big_vision"),
        Choice("layer_decay", 0.9, "smaller updates in early layers (AutoGluon, fastai)"),
        *_averaging(steps),
    ]
    if facts.is_backbone_spec and facts.is_indexed:
        choices.append(
            Choice("head_phase", True, "head before backbone (fastai; arXiv 2202.10054)")
        )
    if n < _FEW and facts.is_backbone_spec and facts.trains_all:
        choices.append(
            Choice(
                "freeze_layers", 0.3, "early layers are general (arXiv 1411.1792) and the slowest"
            )
        )
    if n < _SMALL:
        choices.append(Choice("freeze_batch_norm", True, "too few images for new statistics"))
    return choices + _of_classes(facts) + _of_backbones(facts)


def _from_scratch(facts: Facts) -> list[Choice]:
    n, batch = facts.num_images, _batch_size(facts)
    epochs = 60.0 if n < 5_000 else 30.0 if n < 100_000 else 15.0
    steps = _steps(facts, batch, epochs)
    return [
        Choice("batch_size", batch, _why_this_batch(facts)),
        Choice("epochs", epochs, "small sets need more epochs"),
        Choice("optimizer", "adamw", "works without tuning"),
        Choice(
            "learning_rate",
            round(1e-3 * math.sqrt(batch / 64), 6),
            _why_this_rate(1e-3, 64, batch),
        ),
        Choice("learning_rate_decay_type", "one_cycle", "fastai, airbench"),
        Choice("gradient_clip_norm", 1.0, "big_vision"),
        *_averaging(steps),
        Choice(
            "batch_norm_momentum", _over_a_twentieth(steps, 0.99), "as for the averaged weights"
        ),
        *_of_classes(facts),
        *_of_backbones(facts),
    ]


def _batch_size(facts: Facts) -> int:
    if facts.batch_size is not None:
        return facts.batch_size
    n, parts = facts.num_images, facts.batch_parts
    return parts * max(1, (32 if n < _FEW else 64 if n < _SMALL else 128) // parts)


def _why_this_batch(facts: Facts) -> str:
    images = "fewer than 2,000" if facts.num_images < _FEW else "fewer than 20,000"
    return f"for {images if facts.num_images < _SMALL else '20,000 or more'} images"


def _why_this_rate(rate: float, batch: int, own_batch: int) -> str:
    if own_batch == batch:
        return f"for batches of {batch}"
    return f"{rate:g} for batches of {batch}, scaled with the square root of the batch size"


def _steps(facts: Facts, batch: int, chosen_epochs: float) -> int:
    """Length of the run."""
    if facts.train_steps is not None:
        return facts.train_steps
    epochs = chosen_epochs if facts.epochs is None else facts.epochs
    return max(1, math.ceil(epochs * facts.num_images / batch))


def _averaging(steps: int) -> list[Choice]:
    decay = _over_a_twentieth(steps, 0.9999)
    reason = f"averages over about {1 / (1 - decay):.0f} of the {steps} steps (torchvision: 5%)"
    return [Choice("moving_average_decay", decay, reason)]


def _over_a_twentieth(steps: int, maximum: float) -> float:
    """The decay of a moving average over a twentieth of so many steps, within bounds."""
    return round(max(0.9, min(maximum, 1 - 20 / steps)), 4)


def _of_curves(choices: list[Choice], facts: Facts) -> list[Choice]:
    """Points for the curves of a short run."""
    values = {choice.name: choice.value for choice in choices}
    steps = _steps(facts, values["batch_size"], values["epochs"])
    every = max(1, steps // _POINTS)
    if every >= OPTIONS["save_summary_steps"].default:
        return []
    return [Choice("save_summary_steps", every, f"a point of the curves every {every} steps")]


def _of_evaluations(facts: Facts) -> list[Choice]:
    if not facts.has_evaluation:
        return []
    choices = []
    if facts.num_images < _SMALL:
        steps = math.ceil(facts.num_images / _batch_size(facts))
        choices.append(Choice("eval_every_steps", steps, "an evaluation after each epoch"))
    if facts.is_one_class:
        choices.append(Choice("best_metric", "accuracy", "the label is single-label"))
    return choices


def _of_classes(facts: Facts) -> list[Choice]:
    if not facts.can_be_smoothed:
        return []
    return [Choice("label_smoothing", 0.1, "torchvision, airbench")]


def _of_backbones(facts: Facts) -> list[Choice]:
    if not facts.is_backbone_spec:
        return []
    choices = [
        Choice("augmentation", "colour", "random crop, flip and colour (LightlyTrain)"),
        Choice("eval_stretch", RECIPE_STRETCH, "random crops change the aspect ratio by up to 4:3"),
    ]
    if facts.image_side is not None and facts.image_side < _SMALL_SIDE:
        size = 128 if facts.has_warm_start else max(64, 32 * math.ceil(facts.image_side / 32))
        reason = f"images of {facts.image_side} pixels (BiT-HyperRule: 128 below 96)"
        choices.append(Choice("image_size", size, reason))
    return choices


def describe(choices: list[Choice]) -> str:
    """A line for each choice."""
    lines = ["recipe auto chooses:"]
    lines += [f"  {c.name} = {c.value}: {c.reason}" for c in choices]
    return "\n".join(lines)
