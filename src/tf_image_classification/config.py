"""Every setting of a run, declared once: name, default, unit, range, help and when it applies.

The command-line flags, the YAML file, the README's table and the record in the model folder all
come from the dataclasses below. Nothing here needs TensorFlow.

    settings = make_settings({"batch_size": 32, "epochs": 5})
    settings.data.batch_size
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from tf_image_classification.errors import ConfigError, did_you_mean, nearest

_Group = TypeVar("_Group")


@dataclasses.dataclass(frozen=True)
class Option:
    """One setting.

    Attributes:
        name: the flag's and the YAML key's name.
        group: the attribute of ``Settings`` that holds it.
        kind: bool, int, float, str or tuple (of strings).
        default: value when nothing is given; None means "not set".
        help: what it does, its unit and its meaning of 0 or None.
        choices: allowed values, or empty.
        minimum: least allowed number, or None.
        maximum: greatest allowed number, or None.
        applies: name of another setting and the values of it under which this one acts, or None.
        excludes: another setting that may not be given together with this one.
        resume: "same" when a run may not be continued with another value, else "free".
        aliases: further names of the flag.
    """

    name: str
    group: str
    kind: type
    default: Any
    help: str
    choices: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    applies: tuple[str, tuple[Any, ...]] | None = None
    excludes: str | None = None
    resume: str = "same"
    aliases: tuple[str, ...] = ()

    def check(self, value: Any) -> Any:
        """The value in the option's type.

        Raises:
            ConfigError: wrong type, out of range or not among the choices.
        """
        if value is None:
            if self.default is None:
                return None
            raise ConfigError(f"{self.name}: no value is given, expected {self._expected()}.")
        value = self._converted(value)
        if self.choices and value not in self.choices:
            raise ConfigError(
                f"{self.name} is {value!r}, expected one of {', '.join(self.choices)}."
                f"{nearest(str(value), self.choices)}"
            )
        if self.kind is float and not math.isfinite(value):
            raise ConfigError(f"{self.name} is {value!r}, expected a finite number.")
        too_small = self.minimum is not None and not value >= self.minimum
        too_large = self.maximum is not None and not value <= self.maximum
        if self.kind in (int, float) and (too_small or too_large):
            raise ConfigError(f"{self.name} is {value!r}, expected {self._expected()}.")
        return value

    def _converted(self, value: Any) -> Any:
        if self.kind is tuple and isinstance(value, str):
            return self.split(value)
        if self.kind is tuple and isinstance(value, Sequence):
            return tuple(str(part) for part in value)
        if self.kind is float and isinstance(value, int) and not isinstance(value, bool):
            return float(value)
        if self.kind is float and isinstance(value, str):  # YAML reads 1e-3 as a string
            try:
                return float(value)
            except ValueError:
                pass
        if type(value) is not self.kind:
            raise ConfigError(f"{self.name} is {value!r}, expected {self._expected()}.")
        return value

    def split(self, text: str) -> tuple[str, ...]:
        """The values that one text of a list stands for: comma-separated, but for patterns.

        Patterns stay whole, because names of files may hold commas.
        """
        if self.name.endswith("metadata"):
            return (text,)
        return tuple(part.strip() for part in text.split(",") if part.strip())

    def _expected(self) -> str:
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        kinds = {
            bool: "true or false",
            int: "a whole number",
            float: "a number",
            str: "a text",
            tuple: "a list",
        }
        text = kinds[self.kind]
        if self.minimum is not None and self.maximum is not None:
            return f"{text} from {self.minimum:g} to {self.maximum:g}"
        if self.minimum is not None:
            return f"{text} of at least {self.minimum:g}"
        return text


def declare(default: Any, help: str, **rules: Any) -> Any:
    """A field of a dataclass of options; rules as the attributes of ``Option``."""
    return dataclasses.field(default=default, metadata={"help": help, **rules})


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunSettings:
    """What is run, where it is kept and how exact it is."""

    model_dir: str = declare(
        "./models",
        "Folder of the run: checkpoints, TensorBoard logs, settings, evaluations; may be gs://.",
        resume="free",
    )
    evaluate: bool = declare(
        False, "Only evaluate the model in model_dir, on the whole evaluation set.", resume="free"
    )
    plan: bool = declare(
        False,
        "Print what the run would do, with time and memory measured, and do none of it.",
        resume="free",
    )
    seed: int = declare(
        0,
        "Decides initial weights, order of examples, augmentation and dropout.",
        minimum=0,
        maximum=2**31 - 1,
    )
    debug: bool = declare(False, "No shuffling: examples in the order of the files.")
    deterministic: bool = declare(
        True, "Use only operations that give the same bits every time; costs speed on GPUs."
    )
    allow_changes: bool = declare(
        False,
        "Continue a model folder although spec, data or settings differ from its record.",
        resume="free",
    )
    strategy: str = declare(
        "auto",
        "Devices to use: the workers that TF_CONFIG describes, else all GPUs of this machine "
        "(auto); one device; all devices of this machine (mirrored); the workers; or a TPU.",
        choices=("auto", "one_device", "mirrored", "multi_worker", "tpu"),
        resume="free",
    )
    cluster_timeout_secs: float = declare(
        600.0,
        "Seconds to wait for the other workers of a cluster to start.",
        minimum=1.0,
        resume="free",
    )
    progress: bool = declare(True, "Show the progress bar.", resume="free")


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataSettings:
    """Which examples are used and how they are read."""

    train_metadata: tuple[str, ...] = declare(
        (),
        "Training examples: TFRecord files or patterns, CSV files, or a folder of class folders; "
        "local or gs://.",
        resume="free",
    )
    eval_metadata: tuple[str, ...] = declare(
        (), "Evaluation examples, in the same forms.", resume="free"
    )
    labels: tuple[str, ...] = declare(
        (),
        "File of class names, a line each; with several class labels name=file for each.",
        resume="free",
    )
    batch_size: int = declare(
        64, "Examples in one step, over all devices of all workers.", minimum=1
    )
    image_size: int = declare(
        224, "Width and height in pixels that the preprocessing is asked for.", minimum=1
    )
    input_mode: str = declare(
        "indexed",
        "indexed: shuffle over the whole set, by random access; streaming: read TFRecord files in "
        "sequence with bounded memory.",
        choices=("indexed", "streaming"),
    )
    stream_block: int = declare(
        4096,
        "Encoded examples that are held and shuffled together when streaming.",
        minimum=1,
        applies=("input_mode", ("streaming",)),
    )
    image_feature: str = declare(
        "",
        "Feature of a TFRecord example that holds the encoded image; empty: told from the first "
        "record.",
        resume="free",
    )
    label_features: tuple[str, ...] = declare(
        (),
        "Feature of a TFRecord example for a label, as label=feature, when it has another name.",
        resume="free",
    )
    data_service: str = declare(
        "",
        "tf.data service, grpc://host:port, whose machines read and preprocess the training "
        "examples; in the order in which they are ready, so only with nodeterministic.",
        resume="free",
    )
    on_bad_image: str = declare(
        "fail",
        "An image that cannot be decoded ends the run (fail), or is counted, listed in the "
        "model folder and left out (skip).",
        choices=("fail", "skip"),
        resume="free",
    )
    max_image_pixels: int = declare(
        100_000_000, "Images with more pixels than this are bad images.", minimum=1, resume="free"
    )
    cache_dir: str = declare(
        "",
        "Local folder for unpacked compressed records; empty: the user's cache folder.",
        resume="free",
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """What the model starts from and which of its variables move."""

    checkpoint_path: str = declare(
        "",
        "Pretrained checkpoint to start from; with a backbone also imagenet, Keras's weights, or "
        "none. Not read again when a run resumes.",
        aliases=("warm_start_ckpt",),
        resume="free",
    )
    checkpoint_restore_scopes: tuple[str, ...] = declare(
        (), "Load only variables whose names begin with one of these.", resume="free"
    )
    checkpoint_exclude_scopes: tuple[str, ...] = declare(
        (), "Do not load variables whose names begin with one of these.", resume="free"
    )
    checkpoint_averages: bool = declare(
        False,
        "Load the moving averages that a TensorFlow 1 checkpoint keeps beside its weights.",
        resume="free",
    )
    trainable_scopes: tuple[str, ...] = declare(
        (), "Train only variables whose names begin with one of these; empty: all."
    )
    head_phase: bool = declare(
        False,
        "Before the first step fit the outputs (the layers called logits) to the features that the "
        "warm-started network gives, by regression; the features are cached.",
    )
    layer_decay: float = declare(
        1.0,
        "Factor of the learning rate from each twelfth of the network's depth to the one before "
        "it; outputs have the full rate.",
        minimum=0.0,
        maximum=1.0,
    )
    freeze_batch_norm: bool = declare(
        False, "Batch normalisation keeps the statistics and scales that it starts with."
    )
    moving_average_decay: float = declare(
        0.0,
        "Decay of the moving average of the weights, which is then evaluated and exported; 0: off.",
        minimum=0.0,
        maximum=0.999999,
    )
    sync_batch_norm: bool = declare(
        False,
        "Batch normalisation takes the statistics of the whole batch, not of each device's part.",
    )
    precision: str = declare(
        "float32",
        "Number format of the computation; variables stay float32.",
        choices=("float32", "mixed_bfloat16", "mixed_float16"),
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReadySettings:
    """What is trained without a class of one's own, and who chooses the other settings."""

    backbone: str = declare(
        "", "Ready network to train when no spec is given; tfic backbones lists them."
    )
    recipe: str = declare(
        "none",
        "Let the number of images and classes and what the model starts from choose every setting "
        "that is not given (auto); tfic train --backbone does so by itself.",
        choices=("none", "auto"),
        resume="free",
    )
    augmentation: str = declare(
        "crop",
        "What happens to training images: nothing; mirroring (flip); random parts as well (crop); "
        "and then colours (colour), RandAugment (rand) or TrivialAugment (trivial), with erasing.",
        choices=("none", "flip", "crop", "colour", "rand", "trivial"),
    )
    dropout: float = declare(
        0.2, "Share of the features that is left out in training.", minimum=0.0, maximum=0.99
    )
    eval_crop: float = declare(
        1.0,
        "Share of an image's largest fitting part that an evaluation sees, in each direction.",
        minimum=0.05,
        maximum=1.0,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """How long and how one step is computed."""

    train_steps: int | None = declare(
        None, "Steps in all, counted over restarts.", minimum=1, excludes="epochs", resume="free"
    )
    epochs: float | None = declare(
        None,
        "Length of the run in passes over the training set; 10 if neither is given.",
        minimum=0.001,
        resume="free",
    )
    gradient_accumulation_steps: int = declare(
        1, "Parts in which one batch is computed, to save memory; must divide the batch.", minimum=1
    )
    steps_per_call: int = declare(
        1, "Steps inside one call of the compiled function.", minimum=1, resume="free"
    )
    jit_compile: str = declare(
        "auto", "XLA: with a single GPU (auto), on or off.", choices=("auto", "on", "off")
    )
    gradient_clip_norm: float = declare(
        0.0, "Largest global norm of the gradient; 0: no limit.", minimum=0.0
    )
    gradient_clip_value: float = declare(
        0.0, "Largest magnitude of one number of the gradient; 0: no limit.", minimum=0.0
    )
    label_smoothing: float = declare(
        0.0, "Share of the target spread evenly over all classes.", minimum=0.0, maximum=0.999
    )
    mixup_alpha: float = declare(
        0.0, "Mix neighbouring images and their labels (mixup); 0: off, usual: 0.2.", minimum=0.0
    )
    cutmix_alpha: float = declare(
        0.0,
        "Exchange a rectangle of neighbouring images (cutmix); 0: off, usual: 1.0. With "
        "mixup_alpha, one of them by chance.",
        minimum=0.0,
    )
    class_weights: str = declare(
        "none",
        "Let all classes weigh alike in the training's loss, however many examples they have "
        "(balanced).",
        choices=("none", "balanced"),
    )
    regression_loss: str = declare(
        "mean_squared", "Loss of real-valued labels.", choices=("mean_squared", "huber")
    )
    huber_delta: float = declare(
        1.0,
        "Error beyond which the Huber loss grows linearly, in units of the label.",
        minimum=1e-12,
        applies=("regression_loss", ("huber",)),
    )
    early_stopping_patience: int = declare(
        0,
        "Stop after so many evaluations without a better best_metric; 0: never.",
        minimum=0,
        resume="free",
    )


_ADAM_LIKE = ("adam", "adamw", "lamb", "lion", "muon")


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerSettings:
    """The update rule."""

    optimizer: str = declare(
        "adamw",
        "Update rule.",
        choices=(
            "adadelta",
            "adagrad",
            "adam",
            "adamw",
            "ftrl",
            "lamb",
            "lion",
            "momentum",
            "muon",
            "rmsprop",
            "sgd",
        ),
    )
    weight_decay: float | None = declare(
        None,
        "Decoupled weight decay, times the learning rate; biases and normalisation are left "
        "out. None: 0.05 for adamw, lamb, lion and muon, 4e-5 for momentum and sgd, else 0.",
        minimum=0.0,
    )
    opt_epsilon: float | None = declare(
        None,
        "Term that keeps the division stable; None: the published value of the optimizer.",
        minimum=0.0,
        applies=("optimizer", ("adadelta", "adagrad", "adam", "adamw", "lamb", "muon", "rmsprop")),
    )
    adadelta_rho: float = declare(
        0.95,
        "Decay of adadelta's averages.",
        minimum=0.0,
        maximum=1.0,
        applies=("optimizer", ("adadelta",)),
    )
    adagrad_initial_accumulator_value: float = declare(
        0.1, "Start of adagrad's accumulators.", minimum=0.0, applies=("optimizer", ("adagrad",))
    )
    adam_beta1: float | None = declare(
        None,
        "Decay of the first moment. None: 0.9.",
        minimum=0.0,
        maximum=1.0,
        applies=("optimizer", _ADAM_LIKE),
    )
    adam_beta2: float | None = declare(
        None,
        "Decay of the second moment. None: 0.99 for lion, else 0.999.",
        minimum=0.0,
        maximum=1.0,
        applies=("optimizer", _ADAM_LIKE),
    )
    ftrl_learning_rate_power: float = declare(
        -0.5,
        "Power of the accumulators in ftrl's rate.",
        maximum=0.0,
        applies=("optimizer", ("ftrl",)),
    )
    ftrl_initial_accumulator_value: float = declare(
        0.1, "Start of ftrl's accumulators.", minimum=0.0, applies=("optimizer", ("ftrl",))
    )
    ftrl_l1: float = declare(
        0.0, "ftrl's L1 strength.", minimum=0.0, applies=("optimizer", ("ftrl",))
    )
    ftrl_l2: float = declare(
        0.0, "ftrl's L2 strength.", minimum=0.0, applies=("optimizer", ("ftrl",))
    )
    momentum: float | None = declare(
        None,
        "Momentum. None: 0.95 for muon, else 0.9.",
        minimum=0.0,
        maximum=1.0,
        applies=("optimizer", ("momentum", "muon")),
    )
    nesterov: bool = declare(
        False, "Nesterov's form of momentum.", applies=("optimizer", ("momentum",))
    )
    rmsprop_momentum: float = declare(
        0.9, "rmsprop's momentum.", minimum=0.0, maximum=1.0, applies=("optimizer", ("rmsprop",))
    )
    rmsprop_decay: float = declare(
        0.9,
        "Decay of rmsprop's average.",
        minimum=0.0,
        maximum=1.0,
        applies=("optimizer", ("rmsprop",)),
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScheduleSettings:
    """The learning rate over the run."""

    learning_rate: float = declare(1e-3, "Highest learning rate.", minimum=0.0)
    learning_rate_decay_type: str = declare(
        "cosine",
        "How the rate falls from learning_rate.",
        choices=("fixed", "exponential", "polynomial", "cosine", "one_cycle"),
    )
    end_learning_rate: float = declare(
        0.0,
        "Rate at the end of the run.",
        minimum=0.0,
        applies=("learning_rate_decay_type", ("polynomial", "cosine", "one_cycle")),
    )
    learning_rate_decay_factor: float = declare(
        0.94,
        "Factor at each decay.",
        minimum=0.0,
        maximum=1.0,
        applies=("learning_rate_decay_type", ("exponential",)),
    )
    num_epochs_per_decay: float = declare(
        2.0,
        "Epochs from one decay to the next.",
        minimum=1e-6,
        applies=("learning_rate_decay_type", ("exponential",)),
    )
    polynomial_power: float = declare(
        1.0,
        "Power of the polynomial; 1: a straight line.",
        minimum=1e-6,
        applies=("learning_rate_decay_type", ("polynomial",)),
    )
    one_cycle_warmup: float = declare(
        0.3,
        "Share of the run in which the one-cycle rate rises.",
        minimum=0.0,
        maximum=0.99,
        applies=("learning_rate_decay_type", ("one_cycle",)),
    )
    warmup_steps: int = declare(
        0,
        "Steps in which the rate first rises in a straight line from 0.",
        minimum=0,
        applies=("learning_rate_decay_type", ("fixed", "exponential", "polynomial", "cosine")),
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckpointSettings:
    """What is written while the run goes on, and how often."""

    save_summary_steps: int = declare(
        100,
        "Steps between two points of the TensorBoard curves; 0: none.",
        minimum=0,
        resume="free",
    )
    save_checkpoints_steps: int | None = declare(
        None,
        "Steps between two checkpoints.",
        minimum=1,
        excludes="save_checkpoints_secs",
        resume="free",
    )
    save_checkpoints_secs: float | None = declare(
        None,
        "Seconds between two checkpoints; 600 if neither is given.",
        minimum=0.0,
        resume="free",
    )
    keep_checkpoint_max: int = declare(
        5, "Checkpoints kept besides the best one; -1 keeps all.", minimum=-1, resume="free"
    )
    export_saved_model: bool = declare(
        True,
        "Write a SavedModel that takes encoded images when the run is complete.",
        resume="free",
    )
    export_dir: str = declare(
        "", "Folder that gets a copy of the exported model; may be gs://.", resume="free"
    )
    tensorboard_dir: str = declare(
        "", "Folder of the TensorBoard logs; empty: tensorboard in model_dir.", resume="free"
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluationSettings:
    """When and on how much the model is evaluated."""

    eval_freq: int = declare(
        0, "Batches in one evaluation; 0: the whole evaluation set.", minimum=0, resume="free"
    )
    eval_throttle_secs: float = declare(
        120.0,
        "Least seconds from one evaluation to the next while training.",
        minimum=0.0,
        resume="free",
    )
    eval_every_steps: int | None = declare(
        None,
        "Evaluate at these steps instead of by the clock.",
        minimum=1,
        excludes="eval_throttle_secs",
        resume="free",
    )
    evaluator: str = declare(
        "auto",
        "Who evaluates in a cluster: its evaluator task, which takes each checkpoint (task), the "
        "workers together (workers), or the task if the cluster names one (auto).",
        choices=("auto", "workers", "task"),
        resume="free",
    )
    best_metric: str = declare(
        "",
        "Metric that chooses the best checkpoint; empty: the loss.",
        resume="free",
    )
    best_mode: str = declare(
        "auto",
        "Whether more or less of best_metric is better; auto: told from its name.",
        choices=("auto", "max", "min"),
        resume="free",
    )
    output_cm_folder: str = declare(
        "", "Folder for the confusion matrix of each class label as a PNG.", resume="free"
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """All settings of a run, with where each came from.

    Attributes:
        origins: option name to "default", "environment", "flag", "argument" or the settings file's
            path.
    """

    run: RunSettings = RunSettings()
    data: DataSettings = DataSettings()
    model: ModelSettings = ModelSettings()
    ready: ReadySettings = ReadySettings()
    training: TrainingSettings = TrainingSettings()
    optimizer: OptimizerSettings = OptimizerSettings()
    schedule: ScheduleSettings = ScheduleSettings()
    checkpoints: CheckpointSettings = CheckpointSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
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

    def with_choices(self, choices: Mapping[str, Any], origin: str) -> Settings:
        """These settings where they were given, and elsewhere the ones that something else chose.

        A choice that would have no effect beside the given settings is left out.

        Args:
            choices: values by option name.
            origin: what chose them.

        Raises:
            ConfigError: as ``make_settings``.
        """
        given = {name: v for name, v in self.values().items() if self.origin(name) != "default"}
        origins = {name: self.origin(name) for name in given}
        taken = {
            name: value
            for name, value in choices.items()
            if name not in given and _PARTNERS.get(name) not in given
        }
        merged, merged_origins = {**taken, **given}, {**dict.fromkeys(taken, origin), **origins}
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


def options_of(group: str, group_class: type[Any]) -> Iterator[Option]:
    """The options that a dataclass declares by its fields, as made by ``declare``."""
    hints = typing.get_type_hints(group_class)
    for field in filter(lambda field: field.metadata, dataclasses.fields(group_class)):
        yield Option(
            name=field.name,
            group=group,
            kind=_plain_type(hints[field.name]),
            default=field.default,
            **field.metadata,
        )


def _declared_options() -> Iterator[Option]:
    for group, group_class in _groups().items():
        yield from options_of(group, group_class)


def _plain_type(hint: Any) -> type:
    if isinstance(hint, types.UnionType):
        hint = next(arm for arm in hint.__args__ if arm is not type(None))
    plain: type = typing.get_origin(hint) or hint
    return plain


IMAGENET = "imagenet"
"""What ``checkpoint_path`` calls the weights that Keras has for a backbone."""

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
    if settings.data.data_service:
        _check_data_service(settings)
    if settings.model.sync_batch_norm and settings.training.gradient_accumulation_steps > 1:
        raise ConfigError(
            "sync_batch_norm and gradient_accumulation_steps exclude each other: a part of the "
            "batch cannot know the statistics of the whole. Give one of them."
        )
    if settings.training.gradient_clip_norm and settings.training.gradient_clip_value:
        raise ConfigError(
            "gradient_clip_norm and gradient_clip_value exclude each other. Give one of them."
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
    needs = {
        "checkpoint_restore_scopes": "checkpoint_path",
        "checkpoint_exclude_scopes": "checkpoint_path",
        "checkpoint_averages": "checkpoint_path",
        "head_phase": "checkpoint_path",
        "augmentation": "backbone",
        "dropout": "backbone",
        "eval_crop": "backbone",
        "early_stopping_patience": "eval_metadata",
        "eval_freq": "eval_metadata",
        "eval_every_steps": "eval_metadata",
        "eval_throttle_secs": "eval_metadata",
        "evaluator": "eval_metadata",
        "best_metric": "eval_metadata",
        "best_mode": "best_metric",
        "output_cm_folder": "eval_metadata",
    }
    for name, needed in needs.items():
        if settings.origin(name) != "default" and values[name] and not values[needed]:
            raise ConfigError(
                f"{name} ({settings.origin(name)}) has no effect without {needed}. "
                f"Give {needed} or remove {name}."
            )
