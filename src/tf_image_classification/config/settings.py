"""All settings of a run, merged from their sources, checked, and with their origins.

>>> settings = make_settings({"batch_size": 32, "epochs": 5})
>>> settings.data.batch_size, settings.origin("batch_size"), settings.origin("seed")
(32, 'argument', 'default')
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Collection, Mapping
from typing import Any, TypeVar

from tf_image_classification.config import rules
from tf_image_classification.config.foreign_flags import advice_for
from tf_image_classification.config.groups import (
    ALIASES,
    GROUPS,
    OPTIONS,
    BackboneSettings,
    CheckpointSettings,
    DataSettings,
    EvaluationSettings,
    ModelSettings,
    OptimizerSettings,
    RunSettings,
    ScheduleSettings,
    TrainingSettings,
)
from tf_image_classification.errors import ConfigError, did_you_mean

_Group = TypeVar("_Group")

_AUTOMATIC = (
    *("default", rules.ENVIRONMENT, "recipe", "backbone", "train_metadata", "fold"),
    "from_model",
)
"""Origins of settings that the user did not choose, so that they need no effect."""

_PARTNERS = {o.name: o.excludes for o in OPTIONS.values() if o.excludes}
_PARTNERS |= {partner: name for name, partner in _PARTNERS.items()}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """All settings of a run, with the origin of each.

    Attributes:
        origins: origin of each option that is not at its default, by its name: "environment",
            "flag", "argument", the settings file's path, or what chose it, e.g. "recipe".
    """

    run: RunSettings = dataclasses.field(default_factory=RunSettings)
    data: DataSettings = dataclasses.field(default_factory=DataSettings)
    model: ModelSettings = dataclasses.field(default_factory=ModelSettings)
    backbone_spec: BackboneSettings = dataclasses.field(default_factory=BackboneSettings)
    training: TrainingSettings = dataclasses.field(default_factory=TrainingSettings)
    optimizer: OptimizerSettings = dataclasses.field(default_factory=OptimizerSettings)
    schedule: ScheduleSettings = dataclasses.field(default_factory=ScheduleSettings)
    checkpoints: CheckpointSettings = dataclasses.field(default_factory=CheckpointSettings)
    evaluation: EvaluationSettings = dataclasses.field(default_factory=EvaluationSettings)
    origins: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def values(self) -> dict[str, Any]:
        """Every option's value by its name, in the order of declaration."""
        return {o.name: getattr(getattr(self, o.group), o.name) for o in OPTIONS.values()}

    def replace(self, **changes: Any) -> Settings:
        """These settings with some options changed, checked again.

        A changed option replaces the one that it excludes.

        Raises:
            ConfigError: as ``make_settings``.
        """
        changed = {ALIASES.get(name, name) for name in changes}
        dropped = {_PARTNERS.get(name) for name in changed} - changed
        values = {name: v for name, v in self._set_values().items() if name not in dropped}
        origins = {name: self.origin(name) for name in values}
        _merge(values, origins, changes, "argument")
        return _build(values, origins)

    def with_choices(
        self, choices: Mapping[str, Any], origin: str, *, over: Collection[str] = ()
    ) -> Settings:
        """Fill in every option that is not set.

        A choice that would have no effect with the options that are set is left out, and so is one
        that would take away the effect of an option that is set.

        Args:
            choices: values by option name.
            origin: the origin of these values.
            over: origins of options that the choices override.

        Raises:
            ConfigError: as ``make_settings``.
        """
        values = self._set_values()
        kept = {name: v for name, v in values.items() if self.origin(name) not in over}
        needed = dict(applies for name in kept if (applies := OPTIONS[name].applies) is not None)
        taken = {
            name: value
            for name, value in choices.items()
            if not {name, _PARTNERS.get(name)} & kept.keys() and value in needed.get(name, (value,))
        }
        merged = {**values, **taken}
        for name in [name for name in taken if not rules.has_effect(OPTIONS[name], merged)]:
            del merged[name]
        return _build(merged, {n: origin if n in taken else self.origin(n) for n in merged})

    def origin(self, name: str) -> str:
        """Where an option's value comes from; "default" if it is not set."""
        return self.origins.get(name, "default")

    def is_chosen(self, name: str) -> bool:
        """Whether the user has set an option, so that it must have an effect."""
        return self.origin(name) not in _AUTOMATIC

    def _set_values(self) -> dict[str, Any]:
        return {name: v for name, v in self.values().items() if name in self.origins}


def make_settings(
    given: Mapping[str, Any] | None = None,
    *,
    environment: Mapping[str, Any] | None = None,
    file: Mapping[str, Any] | None = None,
    file_path: str = "",
    flags: Mapping[str, Any] | None = None,
) -> Settings:
    """Settings from the defaults and these sources, of which a later one overrides the earlier.

    The order is: defaults, environment, file, flags, ``given``.

    Args:
        given: values from Python, by option name.
        environment: values that the platform has given; they need not have an effect.
        file: values read from a settings file.
        file_path: the file's path, for messages and the run manifest.
        flags: values given on the command line.

    Raises:
        ConfigError: an unknown name, a wrong type, a value out of range, two options that exclude
            each other, or one that has no effect with the others.

    Example:
        >>> make_settings({"batch_size": 32}).data.batch_size
        32
    """
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    layers = (
        (environment, rules.ENVIRONMENT),
        (file, file_path or "file"),
        (flags, "flag"),
        (given, "argument"),
    )
    for layer, origin in layers:
        _merge(values, origins, layer or {}, origin)
    return _build(values, origins)


def _merge(
    values: dict[str, Any], origins: dict[str, str], layer: Mapping[str, Any], origin: str
) -> None:
    """Let a layer override the ones before it."""
    for given_name, value in layer.items():
        name = ALIASES.get(given_name, given_name)
        if name not in OPTIONS:
            advice = advice_for(str(name), OPTIONS)
            advice = advice or did_you_mean(str(name), [*OPTIONS, *ALIASES])
            raise ConfigError(f"Unknown setting {name!r} ({origin}). {advice}")
        if name != given_name and name in layer:
            raise ConfigError(
                f"{given_name} and {name} ({origin}) are two names of one setting. Give one."
            )
        partner = _PARTNERS.get(name)
        if partner in values and origins[partner] != origin:
            del values[partner], origins[partner]  # the later layer decides
        values[name], origins[name] = value, origin


def _build(values: Mapping[str, Any], origins: Mapping[str, str]) -> Settings:
    checked = {}
    for name, value in values.items():
        try:
            checked[name] = OPTIONS[name].check(value)
        except ConfigError as error:
            raise ConfigError(f"{error} (Given as {origins[name]}.)") from error
    groups: dict[str, Any] = {name: _filled(group, checked) for name, group in GROUPS.items()}
    settings = Settings(**groups, origins=dict(origins))
    rules.check_together(settings.values(), origins)
    return settings


def _filled(group_class: type[_Group], values: Mapping[str, Any]) -> _Group:
    names = typing.get_type_hints(group_class)
    return group_class(**{name: value for name, value in values.items() if name in names})
