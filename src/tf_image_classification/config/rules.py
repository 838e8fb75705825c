"""Checks that every option that was given takes effect, and rejects those that do not.

The rules are declared with each option (``Option``: choices and ranges, ``applies``, ``needs``,
``excludes``, ``facts``, ``verbs``); conflicts between values of several options are listed here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tf_image_classification.config.groups import IMAGENET, OPTIONS
from tf_image_classification.config.options import Option
from tf_image_classification.config.pixel_range import MEASURED
from tf_image_classification.errors import ConfigError

if TYPE_CHECKING:
    from tf_image_classification.config.settings import Settings


ENVIRONMENT = "environment"
"""Origin of a setting that the platform has given; such a one needs no effect."""


@dataclasses.dataclass(frozen=True)
class Conflict:
    """Values of options that cannot be set together.

    Attributes:
        values: value by option name; True stands for any value that is not off.
        reason: why not, and what to do.
    """

    values: Mapping[str, Any]
    reason: str

    def holds(self, values: Mapping[str, Any]) -> bool:
        """Whether all options have these values."""
        return all(
            bool(values[name]) if value is True else values[name] == value
            for name, value in self.values.items()
        )


_CONFLICTS = (
    Conflict(
        {"strategy": "tpu", "precision": "mixed_float16"},
        "precision is mixed_float16, which TPUs do not have. Use --precision mixed_bfloat16.",
    ),
    Conflict(
        {"png16_range": MEASURED, "input_mode": "streaming"},
        "png16_range is measured, which needs input_mode indexed: a stream is read once. Give the "
        "range, e.g. --png16_range 0-4095; tfic inspect prints it.",
    ),
    Conflict(
        {"data_service": True, "deterministic": True},
        "data_service gives batches in an order that is not deterministic, so the run cannot be "
        "repeated or resumed exactly. Add --nodeterministic to accept that, or remove "
        "data_service.",
    ),
    Conflict(
        {"data_service": True, "on_bad_image": "skip"},
        "on_bad_image is skip, which needs the index of the bad example, and data_service does "
        "not pass it on. Remove one of them.",
    ),
    Conflict(
        {"balanced_sampling": True, "class_weights": "balanced"},
        "balanced_sampling and class_weights balanced would compensate class imbalance twice. "
        "Give one of them.",
    ),
    Conflict(
        {"loss": "logit_adjusted", "class_weights": "balanced"},
        "loss logit_adjusted and class_weights balanced would compensate class imbalance twice. "
        "Give one of them.",
    ),
    Conflict(
        {"loss": "logit_adjusted", "balanced_sampling": True},
        "loss logit_adjusted and balanced_sampling would compensate class imbalance twice. Give "
        "one of them.",
    ),
    Conflict(
        {"checkpoint_averages": True, "checkpoint_path": IMAGENET},
        "checkpoint_averages has no effect with checkpoint_path imagenet: these weights contain "
        "no moving averages. Remove it.",
    ),
)


def check_together(values: Mapping[str, Any], origins: Mapping[str, str]) -> None:
    """Reject options that exclude one another or have no effect together.

    Args:
        values: every option's value by its name.
        origins: where the options that were given come from.

    Raises:
        ConfigError: names the options, their origins and what to do.
    """
    for name in (name for name in OPTIONS if name in origins):
        option = OPTIONS[name]
        other = option.excludes
        is_set = values[name] not in (None, False) and values.get(other) not in (None, False)
        if other in origins and is_set:
            raise ConfigError(
                f"{name} ({origins[name]}) and {other} ({origins[other]}) exclude each other. "
                "Give one of them."
            )
    _check_accumulation(values)
    for conflict in _CONFLICTS:
        if conflict.holds(values):
            raise ConfigError(conflict.reason)
    check_applies(OPTIONS, values, origins)
    has_data = bool(values["train_metadata"])
    _check_needs(values, origins, has_evaluation=has_data, has_backbone=has_data)


def _check_accumulation(values: Mapping[str, Any]) -> None:
    batch, parts = values["batch_size"], values["gradient_accumulation_steps"]
    if values["sync_batch_norm"] and parts > 1:
        raise ConfigError(
            "sync_batch_norm and gradient_accumulation_steps exclude each other: a micro-batch "
            "does not have the statistics of the whole batch. Give one of them."
        )
    if batch % parts:
        raise ConfigError(
            f"gradient_accumulation_steps is {parts}, which does not divide batch_size {batch}. "
            f"Nearest batch sizes: {batch - batch % parts or parts} and "
            f"{batch - batch % parts + parts}."
        )


def has_effect(option: Option, values: Mapping[str, Any]) -> bool:
    """Whether the option on which this one depends has one of the required values."""
    if option.applies is None:
        return True
    other, wanted = option.applies
    return values.get(other, OPTIONS[other].default if other in OPTIONS else None) in wanted


def check_applies(
    options: Mapping[str, Option], values: Mapping[str, Any], origins: Mapping[str, str]
) -> None:
    """Reject given options that depend on another value of some other option.

    Args:
        options: the declarations.
        values: every option's value by its name.
        origins: where the options that were given come from.

    Raises:
        ConfigError: names both options and the values with which there is an effect.
    """
    for name, option in options.items():
        if name in origins and option.applies is not None and not has_effect(option, values):
            other, wanted = option.applies
            raise ConfigError(
                f"{name} ({origins[name]}) has no effect with {other} = {values[other]}; it needs "
                f"{' or '.join(map(str, wanted))}. Remove it or change {other}."
            )


def check_needs(settings: Settings, *, has_evaluation: bool = False) -> None:
    """Reject options that need another one that is not set, once the spec is known.

    Args:
        settings: all settings.
        has_evaluation: whether the training set may still turn out to contain an evaluation split.

    Raises:
        ConfigError: names both options.
    """
    values = settings.values()
    _check_needs(values, settings.origins, has_evaluation=has_evaluation, has_backbone=False)


def _check_needs(
    values: Mapping[str, Any],
    origins: Mapping[str, str],
    *,
    has_evaluation: bool,
    has_backbone: bool,
) -> None:
    # has_backbone: the run may turn out to have no spec, and so the default backbone.
    may_come = {"eval_metadata": has_evaluation, "backbone": has_backbone}
    for name in (name for name in OPTIONS if name in origins and values[name]):
        needed = OPTIONS[name].needs
        is_there = not needed or values[needed] or may_come.get(needed)
        if is_there or origins[name] == ENVIRONMENT:
            continue
        raise ConfigError(
            f"{name} ({origins[name]}) has no effect without {needed}. "
            f"Give {needed} or remove {name}."
        )
    if values["unknown_examples"] and not values["export_saved_model"]:
        raise ConfigError(
            "unknown_examples has no effect without export_saved_model: the score is that of the "
            "exported model. Give export_saved_model or remove it."
        )
    is_seen = has_evaluation or values["eval_metadata"] or values["export_saved_model"]
    if values["test_time_augmentation"] != "none" and not is_seen:
        raise ConfigError(
            "test_time_augmentation has no effect without evaluations and without an exported "
            "model. Give eval_metadata or export_saved_model, or remove it."
        )


def check_facts(settings: Settings, lacking: Mapping[str, str]) -> None:
    """Reject options that the user set and that need a fact that this run lacks.

    Args:
        settings: all settings.
        lacking: by fact (see ``Option.facts``) why it does not hold.

    Raises:
        ConfigError: names the option, its origin and the reason.
    """
    for name, value in settings.values().items():
        for fact in OPTIONS[name].facts:
            if fact in lacking and value and settings.is_chosen(name):
                raise ConfigError(
                    f"{name} ({settings.origin(name)}) has no effect: {lacking[fact]}. Remove it."
                )


def options_for(verb: str) -> list[str]:
    """The names of the settings that have an effect in a verb of tfic, as declared."""
    return [name for name, option in OPTIONS.items() if verb in option.verbs]
