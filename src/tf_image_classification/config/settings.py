"""All settings of a run together: laid over one another, checked, and with their origins.

settings = make_settings({"batch_size": 32, "epochs": 5})
settings.data.batch_size
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Collection, Iterator, Mapping
from typing import Any, TypeVar

from tf_image_classification.config.groups import (
    IMAGENET,
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
from tf_image_classification.config.options import Option, options_of
from tf_image_classification.config.pixel_range import read_pixel_range
from tf_image_classification.errors import ConfigError, did_you_mean

_Group = TypeVar("_Group")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """All settings of a run, with where each came from.

    Attributes:
        origins: option name to "default", "environment", "flag", "argument" or the settings file's
            path.
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

        A changed option takes the place of the one that it excludes.

        Raises:
            ConfigError: as ``make_settings``.
        """
        values = {name: v for name, v in self.values().items() if self.origin(name) != "default"}
        origins = {name: self.origin(name) for name in values}
        for name in list(values):
            if _PARTNERS.get(name) in changes and name not in changes:
                del values[name], origins[name]
        _lay_over(values, origins, changes, "argument")
        return _build(values, origins)

    def with_choices(
        self, choices: Mapping[str, Any], origin: str, *, over: Collection[str] = ()
    ) -> Settings:
        """These settings where they were given, and elsewhere the ones that something else chose.

        A choice that would have no effect beside the given settings is left out, and so is one that
        would keep a given setting from having its effect.

        Args:
            choices: values by option name.
            origin: what chose them.
            over: origins of settings that give way to them.

        Raises:
            ConfigError: as ``make_settings``.
        """
        values = {n: v for n, v in self.values().items() if self.origin(n) != "default"}
        given = {name: v for name, v in values.items() if self.origin(name) not in over}
        weaker = {name: v for name, v in values.items() if name not in given}
        origins = {
            name: self.origin(name) for name in values if name not in choices or name in given
        }
        needed = dict(applies for name in given if (applies := OPTIONS[name].applies) is not None)
        taken = {
            name: value
            for name, value in choices.items()
            if name not in given
            and _PARTNERS.get(name) not in given
            and value in needed.get(name, (value,))
        }
        merged = {**weaker, **taken, **given}
        merged_origins = {**dict.fromkeys(taken, origin), **origins}
        for name in list(taken):  # what has no effect beside the given ones is left out
            applies = OPTIONS[name].applies
            if applies is not None:
                other, wanted = applies
                if merged.get(other, OPTIONS[other].default) not in wanted:
                    del merged[name], merged_origins[name]
        return _build(merged, merged_origins)

    def origin(self, name: str) -> str:
        """Where an option's value came from."""
        return self.origins.get(name, "default")

    def is_chosen(self, name: str) -> bool:
        """Whether the user has given an option, so that it must have an effect."""
        return self.origin(name) not in ("default", ENVIRONMENT)


def _groups() -> dict[str, type[Any]]:
    """The settings' groups by the name of their attribute."""
    hints = typing.get_type_hints(Settings)
    return {name: hints[name] for name in hints if name != "origins"}


def _declared_options() -> Iterator[Option]:
    for group, group_class in _groups().items():
        yield from options_of(group, group_class)


ENVIRONMENT = "environment"
"""Origin of a setting that the platform has given; such a one needs no effect."""

OPTIONS: Mapping[str, Option] = {option.name: option for option in _declared_options()}
ALIASES: Mapping[str, str] = {a: o.name for o in OPTIONS.values() for a in o.aliases}

_PARTNERS = {o.name: o.excludes for o in OPTIONS.values() if o.excludes}
_PARTNERS |= {partner: name for name, partner in _PARTNERS.items()}


def make_settings(
    given: Mapping[str, Any] | None = None,
    *,
    environment: Mapping[str, Any] | None = None,
    file: Mapping[str, Any] | None = None,
    file_path: str = "",
    flags: Mapping[str, Any] | None = None,
) -> Settings:
    """Settings from the defaults, overlaid in this order by the other arguments, the first last.

    Args:
        given: values from Python, by option name.
        environment: values that the platform has given; they need not have an effect.
        file: values read from a settings file.
        file_path: the file's path, for messages and the record.
        flags: values given on the command line.

    Raises:
        ConfigError: an unknown name, a wrong type, a value out of range, two settings that exclude
            each other, or one that has no effect with the others.

    Example:
        >>> make_settings({"batch_size": 32}).data.batch_size
        32
    """
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    layers = (
        (environment, ENVIRONMENT),
        (file, file_path or "file"),
        (flags, "flag"),
        (given, "argument"),
    )
    for layer, origin in layers:
        _lay_over(values, origins, layer or {}, origin)
    return _build(values, origins)


def _lay_over(
    values: dict[str, Any], origins: dict[str, str], layer: Mapping[str, Any], origin: str
) -> None:
    """Add a layer's values to those of the layers before it."""
    for given_name, value in layer.items():
        name = ALIASES.get(given_name, given_name)
        if name not in OPTIONS:
            known = did_you_mean(str(name), [*OPTIONS, *ALIASES])
            raise ConfigError(f"Unknown setting {name!r} ({origin}). {known}")
        if name != given_name and name in layer:
            raise ConfigError(
                f"{given_name} and {name} ({origin}) are two names of one setting. Give one."
            )
        partner = _PARTNERS.get(name)
        if partner in values and origins[partner] != origin:
            del values[partner], origins[partner]  # the later layer has decided
        values[name], origins[name] = value, origin


def _build(values: Mapping[str, Any], origins: Mapping[str, str]) -> Settings:
    checked = {}
    for name, value in values.items():
        try:
            checked[name] = OPTIONS[name].check(value)
        except ConfigError as error:
            raise ConfigError(f"{error} (Given as {origins[name]}.)") from error
    groups: dict[str, Any] = {
        name: _filled(group_class, checked) for name, group_class in _groups().items()
    }
    settings = Settings(**groups, origins=dict(origins))
    _check_exclusions(settings)
    _check_effects(settings)
    return settings


def _filled(group_class: type[_Group], values: Mapping[str, Any]) -> _Group:
    names = typing.get_type_hints(group_class)
    return group_class(**{name: value for name, value in values.items() if name in names})


def _check_exclusions(settings: Settings) -> None:
    values = settings.values()
    for option in OPTIONS.values():
        other = option.excludes
        if other is None or values[option.name] is None:
            continue
        if settings.origin(option.name) != "default" and settings.origin(other) != "default":
            raise ConfigError(
                f"{option.name} ({settings.origin(option.name)}) and {other} "
                f"({settings.origin(other)}) exclude each other. Give one of them."
            )
    if settings.run.plan and settings.run.evaluate:
        raise ConfigError("plan and evaluate exclude each other. Give one of them.")
    if settings.checkpoints.keep_checkpoint_max == 0:
        raise ConfigError(
            "keep_checkpoint_max is 0, but a run needs its newest checkpoint to resume. Expected 1 "
            "or more, or -1 for all."
        )
    if not settings.checkpoints.export_saved_model and settings.is_chosen("export_dir"):
        raise ConfigError("export_dir has no effect without export_saved_model. Remove it.")
    if not settings.checkpoints.save_summary_steps and settings.is_chosen("tensorboard_dir"):
        raise ConfigError("tensorboard_dir has no effect with save_summary_steps 0. Remove it.")
    if settings.run.strategy == "tpu" and settings.model.precision == "mixed_float16":
        raise ConfigError(
            "precision is mixed_float16, which TPUs do not have. Use --precision mixed_bfloat16."
        )
    if "://" in settings.data.cache_dir:
        raise ConfigError(
            f"cache_dir is {settings.data.cache_dir!r}, expected a local folder: records are read "
            "there by random access."
        )
    is_measured = read_pixel_range(settings.data.png16_range) is None
    if is_measured and settings.data.input_mode == "streaming":
        raise ConfigError(
            "png16_range is measured, which needs input_mode indexed: a stream is read once. "
            "Give the range, e.g. --png16_range 0-4095; tfic inspect names it."
        )
    if settings.data.data_service:
        _check_data_service(settings)
    if settings.model.sync_batch_norm and settings.training.gradient_accumulation_steps > 1:
        raise ConfigError(
            "sync_batch_norm and gradient_accumulation_steps exclude each other: a part of the "
            "batch cannot know the statistics of the whole. Give one of them."
        )
    batch, parts = settings.data.batch_size, settings.training.gradient_accumulation_steps
    if batch % parts:
        raise ConfigError(
            f"gradient_accumulation_steps is {parts}, which does not divide batch_size {batch}. "
            f"Nearest batch sizes: {batch - batch % parts or parts} and "
            f"{batch - batch % parts + parts}."
        )


def _check_data_service(settings: Settings) -> None:
    service = settings.data.data_service
    if not service.startswith("grpc://"):
        raise ConfigError(f"data_service is {service!r}, expected grpc://host:port.")
    if settings.run.deterministic:
        raise ConfigError(
            "data_service gives batches in the order in which its machines have them ready, so the "
            "run cannot be repeated or resumed exactly. Add --nodeterministic to accept that, or "
            "leave data_service out."
        )
    if settings.data.on_bad_image == "skip":
        raise ConfigError(
            "on_bad_image is skip, which needs to know which example failed; data_service does not "
            "tell. Leave one of them out."
        )


def _check_effects(settings: Settings) -> None:
    values = settings.values()
    if settings.training.balanced_sampling and settings.training.class_weights == "balanced":
        raise ConfigError(
            "balanced_sampling and class_weights balanced would each make up for rare classes, "
            "together twice. Give one of them."
        )
    for option in OPTIONS.values():
        if settings.origin(option.name) == "default":
            continue
        if option.applies is not None and values[option.applies[0]] not in option.applies[1]:
            other, wanted = option.applies
            raise ConfigError(
                f"{option.name} ({settings.origin(option.name)}) has no effect with {other} = "
                f"{values[other]}; it acts with {', '.join(map(str, wanted))}. "
                f"Remove it or change {other}."
            )
    check_needs(settings, may_be_divided=True)


def check_needs(settings: Settings, *, may_be_divided: bool = False) -> None:
    """Refuse settings that have no effect without others.

    Args:
        settings: all settings.
        may_be_divided: whether the training set may still turn out to have a part for evaluation.

    Raises:
        ConfigError: a setting is given without the one that it needs.
    """
    values = settings.values()
    needs = {
        "checkpoint_restore_scopes": "checkpoint_path",
        "checkpoint_exclude_scopes": "checkpoint_path",
        "checkpoint_averages": "checkpoint_path",
        "head_phase": "checkpoint_path",
        "augmentation": "backbone",
        "crop_area": "backbone",
        "dropout": "backbone",
        "label_columns": "backbone",
        "label_kinds": "backbone",
        "eval_crop": "backbone",
        "early_stopping_patience": "eval_metadata",
        "eval_freq": "eval_metadata",
        "eval_every_steps": "eval_metadata",
        "eval_throttle_secs": "eval_metadata",
        "evaluator": "eval_metadata",
        "best_metric": "eval_metadata",
        "slice_column": "eval_metadata",
        "best_mode": "best_metric",
        "output_cm_folder": "eval_metadata",
    }
    has_evaluations = values["eval_metadata"] or (may_be_divided and values["train_metadata"])
    for name, needed in needs.items():
        if needed == "eval_metadata" and has_evaluations:
            continue
        if settings.origin(name) != "default" and values[name] and not values[needed]:
            raise ConfigError(
                f"{name} ({settings.origin(name)}) has no effect without {needed}. "
                f"Give {needed} or remove {name}."
            )
    if settings.model.checkpoint_averages and settings.model.checkpoint_path == IMAGENET:
        raise ConfigError(
            "checkpoint_averages has no effect with checkpoint_path imagenet: Keras's weights "
            "bring no moving averages beside them. Remove it."
        )
    is_seen = has_evaluations or settings.checkpoints.export_saved_model
    if settings.evaluation.test_time_augmentation != "none" and not is_seen:
        raise ConfigError(
            "test_time_augmentation has no effect without evaluations and without an exported "
            "model. Give eval_metadata or export_saved_model, or remove it."
        )
