"""Every setting of a run, declared once, in groups.

The flags and their help, the YAML file, the tables of the reference, the run manifest and the rules
about which options take effect together all come from these dataclasses.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

from tf_image_classification.config import pixel_scaling
from tf_image_classification.config.options import Option, declare, options_of
from tf_image_classification.config.pixel_range import is_pixel_range

DEFAULT_MAX_PIXELS = 100_000_000
"""Default of the largest number of pixels of an image."""

DEFAULT_BACKBONE = "efficientnet_lite0"
"""The backbone that is trained if neither a spec nor a backbone is given."""

NO_GROUPS = "none"
"""The value of ``groups`` with which no group is found by itself."""

RECIPE_STRETCH = 1.3333
"""``eval_stretch`` of the recipe: random crops change the aspect ratio by up to 4:3."""

DEFAULT_EVAL_SPLIT = 0.2
"""The ``eval_split`` of a run without a spec and without an evaluation set."""

FROM_SCRATCH = "none"
"""The ``checkpoint_path`` that stands for no pretrained weights of a backbone."""

IMAGENET = "imagenet"
"""The ``checkpoint_path`` that stands for the ImageNet weights of a backbone."""

SHORT_FORMS: Mapping[str, tuple[str, ...]] = {
    "train_metadata": ("train", "data"),
    "eval_metadata": ("val", "eval"),
    "backbone": ("model", "arch"),
    "checkpoint_path": ("weights",),
    "batch_size": ("batch",),
    "image_size": ("imgsz",),
    "learning_rate": ("lr",),
    "optimizer": ("opt",),
}
"""Short forms of options in ``tfic`` and in Python; not in programs, which may define them."""

# Verbs of tfic, by the options that have an effect in them. A spec's model_fn may read every
# setting, so check-spec takes those of a training.
_OF_ONE_RUN = ("train", "tune", "check-spec")
_OF_A_RUN = (*_OF_ONE_RUN, "cross-validate")
_OF_A_TRIAL = (*_OF_A_RUN, "find-learning-rate", "find-batch-size")
_OF_ONE_TRIAL = tuple(verb for verb in _OF_A_TRIAL if verb != "cross-validate")
_OF_IMAGES = (*_OF_A_TRIAL, "preview")
_OF_ALL_IMAGES = (*_OF_IMAGES, "evaluate")
_OF_A_FOLDER = ("evaluate", "export", "predict", "report", "serve")
_OF_LABELLING = ("label-next", "forecast")

_BY_CHECKPOINT = {"needs": "checkpoint_path"}
_BY_BACKBONE: Mapping[str, Any] = {"needs": "backbone", "facts": ("backbone_spec",)}
_BY_EVALUATION = {"needs": "eval_metadata"}
_BY_OWN_INPUT = {"facts": ("package_input",)}


def _form(text: str, test: Any) -> tuple[Any, str]:
    return test, text


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunSettings:
    """The task, its folder, its devices and its exactness."""

    RULES: ClassVar[Mapping[str, Any]] = {"verbs": _OF_A_RUN, "resume": "free"}

    model_dir: str = declare(
        "./models",
        "Model folder: checkpoints, TensorBoard logs, run manifest and evaluations; may be gs://.",
        verbs=("train", "cross-validate", "check-spec", "preview", "combine", *_OF_A_FOLDER),
    )
    evaluate: bool = declare(
        False,
        "Evaluate the model in model_dir on the whole evaluation set, without training.",
        verbs=("train",),
    )
    plan: bool = declare(
        False,
        "Dry run: print the steps of the run with measured time and memory, and write nothing.",
        verbs=("train",),
        excludes="evaluate",
    )
    seed: int = declare(
        0,
        "Random seed of initial weights, shuffling, augmentation and dropout.",
        verbs=_OF_ALL_IMAGES,
        minimum=0,
        maximum=2**31 - 1,
        resume="same",
    )
    debug: bool = declare(
        False,
        "Disable shuffling: examples come in the order of the files.",
        verbs=_OF_IMAGES,
        resume="same",
        **_BY_OWN_INPUT,
    )
    deterministic: bool = declare(
        True,
        "Use deterministic ops only, so that a repeated run is bit-identical; slower on GPUs.",
        verbs=_OF_ALL_IMAGES,
        resume="same",
    )
    allow_changes: bool = declare(
        False,
        "Resume although spec, data or settings differ from the run manifest.",
        verbs=_OF_ONE_RUN,
    )
    strategy: str = declare(
        "auto",
        "Devices: the workers of TF_CONFIG, else all GPUs of this machine (auto); a single device "
        "(one_device); all devices of this machine (mirrored); the workers (multi_worker); a TPU "
        "(tpu).",
        choices=("auto", "one_device", "mirrored", "multi_worker", "tpu"),
        verbs=(*_OF_A_TRIAL, "evaluate"),
    )
    cluster_timeout_secs: float = declare(
        600.0,
        "Seconds to wait for the other workers of a cluster to start.",
        minimum=1.0,
        verbs=(*_OF_ONE_RUN, "evaluate"),
        facts=("cluster",),
    )
    progress: bool = declare(True, "Show the progress bar.")
    verbose: bool = declare(
        False,
        "Show the messages of TensorFlow and other libraries.",
        verbs=(
            *(*_OF_A_TRIAL, *_OF_A_FOLDER, "preview", "combine", "compare", "convert", "inspect"),
            *("launch", *_OF_LABELLING),
        ),
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataSettings:
    """Examples and input pipeline."""

    RULES: ClassVar[Mapping[str, Any]] = {"verbs": _OF_ALL_IMAGES, "resume": "free"}

    train_metadata: tuple[str, ...] = declare(
        (),
        "Training set: TFRecord files or patterns, CSV files, or a folder with one folder per "
        "class; local or gs://.",
        separator="",
        verbs=(*_OF_IMAGES, "export"),
        metavar="DATA",
    )
    eval_metadata: tuple[str, ...] = declare(
        (),
        "Evaluation set, in the forms of train_metadata.",
        separator="",
        verbs=(*_OF_ONE_RUN, "combine", "evaluate", "export", "report", "compare"),
        inherited=True,
    )
    eval_split: float = declare(
        0.0,
        "Fraction of the training examples to hold out for evaluation if there is no evaluation "
        "set: of each class, the same ones each time, listed in model_dir; 0: none. The default of "
        "tfic train without a spec is 0.2.",
        minimum=0.0,
        maximum=0.9,
        verbs=_OF_ONE_RUN,
        inherited=False,
        resume="same",
        **_BY_OWN_INPUT,
    )
    group_column: str = declare(
        "",
        "Column of the training set that groups dependent examples, e.g. person; eval_split and "
        "the folds of a cross-validation keep each group on one side.",
        verbs=_OF_A_RUN,
        inherited=False,
        resume="same",
        **_BY_OWN_INPUT,
    )
    groups: str = declare(
        "auto",
        "Groups of dependent images that are found by themselves (copies, frames of one video, "
        "bursts): auto keeps each on one side of eval_split, and an evaluation's intervals are "
        "over videos and bursts; none treats each image by itself.",
        choices=("auto", NO_GROUPS),
        verbs=(*_OF_A_RUN, "evaluate"),
        resume="same",
        **_BY_OWN_INPUT,
    )
    labels: tuple[str, ...] = declare(
        (),
        "File of class names, one per line; with more than one class label, name=file for each.",
    )
    batch_size: int = declare(
        64,
        "Global batch size: examples per step over all devices of all workers.",
        verbs=(*_OF_A_RUN, "find-learning-rate", "evaluate"),
        minimum=1,
        resume="same",
    )
    image_size: int = declare(
        224,
        "Height and width in pixels that the preprocessing resizes to.",
        minimum=1,
        is_exported=True,
        resume="same",
    )
    input_mode: str = declare(
        "indexed",
        "Input pipeline: random access with a full shuffle (indexed), or sequential reads of "
        "TFRecord files with bounded memory (streaming).",
        choices=("indexed", "streaming"),
        verbs=_OF_ONE_TRIAL,
        inherited=False,
        resume="same",
        **_BY_OWN_INPUT,
    )
    stream_block: int = declare(
        4096,
        "Shuffle buffer of the streaming pipeline, in encoded examples.",
        minimum=1,
        verbs=_OF_ONE_TRIAL,
        applies=("input_mode", ("streaming",)),
        inherited=False,
        resume="same",
        **_BY_OWN_INPUT,
    )
    image_feature: str = declare(
        "",
        "TFRecord feature with the encoded image; empty: inferred from the first record.",
        facts=("package_input", "tfrecords"),
    )
    label_features: tuple[str, ...] = declare(
        (),
        "TFRecord feature or column of a label whose name differs, as label=feature.",
        **_BY_OWN_INPUT,
    )
    data_service: str = declare(
        "",
        "tf.data service, grpc://host:port, that reads and preprocesses the training examples; "
        "their order is not deterministic, so it needs nodeterministic.",
        verbs=_OF_A_TRIAL,
        form=_form("grpc://host:port", lambda text: not text or text.startswith("grpc://")),
        **_BY_OWN_INPUT,
    )
    inspect: bool = declare(
        True,
        "Cheap pre-flight checks: class counts, train/eval leakage (exact duplicates; above 5 % "
        "of the evaluation set is an error) and 16-bit PNGs that would be black. Evaluating on "
        "the training set itself is allowed, with a warning.",
        verbs=_OF_A_RUN,
        **_BY_OWN_INPUT,
    )
    on_bad_image: str = declare(
        "fail",
        "For an image that cannot be decoded: end the run (fail), or count it, list it in the "
        "model folder and leave it out (skip).",
        choices=("fail", "skip"),
        **_BY_OWN_INPUT,
    )
    max_image_pixels: int = declare(
        DEFAULT_MAX_PIXELS,
        "Maximum pixels per image; a larger image counts as one that cannot be decoded.",
        minimum=1,
        **_BY_OWN_INPUT,
    )
    png16_range: str = declare(
        "full",
        "Values of 16-bit PNGs that map to 0 and 255: min-max (0-4095 for 12-bit images), full "
        "(0-65535), or measured on the training images. Stored with the model.",
        form=_form("full, measured or two numbers from 0 to 65535, e.g. 0-4095", is_pixel_range),
        is_exported=True,
        resume="same",
        **_BY_OWN_INPUT,
    )
    cache_dir: str = declare(
        "",
        "Local cache for indexes, unpacked records and features; empty: the user's cache folder.",
        verbs=(
            *_OF_ALL_IMAGES,
            *("combine", "compare", "export", "inspect", "predict", "report", *_OF_LABELLING),
        ),
        form=_form(
            "a local folder: records are read there by random access",
            lambda path: "://" not in path,
        ),
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """Initial weights, trainable variables, normalisation and precision."""

    RULES: ClassVar[Mapping[str, Any]] = {"verbs": _OF_A_TRIAL}

    checkpoint_path: str = declare(
        "",
        "Pretrained weights for a warm start; with a backbone also imagenet or none (from "
        "scratch). Ignored when a run resumes.",
        verbs=_OF_IMAGES,
        aliases=("warm_start_ckpt",),
        resume="free",
    )
    checkpoint_restore_scopes: tuple[str, ...] = declare(
        (),
        "Load only variables whose names start with one of these prefixes.",
        resume="free",
        **_BY_CHECKPOINT,
    )
    checkpoint_exclude_scopes: tuple[str, ...] = declare(
        (),
        "Do not load variables whose names start with one of these prefixes.",
        resume="free",
        **_BY_CHECKPOINT,
    )
    checkpoint_averages: bool = declare(
        False,
        "Load the exponential moving averages of a TensorFlow 1 checkpoint in place of its "
        "weights.",
        resume="free",
        **_BY_CHECKPOINT,
    )
    trainable_scopes: tuple[str, ...] = declare(
        (),
        "Train only variables whose names start with one of these prefixes; empty: all.",
        inherited=False,
    )
    head_phase: bool = declare(
        False,
        "Before the first step, fit the classifier head (layers named logits) to cached features "
        "of the pretrained network by regression.",
        verbs=_OF_A_RUN,
        inherited=False,
        **_BY_CHECKPOINT,
    )
    layer_decay: float = declare(
        1.0,
        "Layer-wise learning-rate decay: factor per twelfth of the depth, from the head (full "
        "rate) towards the input.",
        minimum=0.0,
        maximum=1.0,
        inherited=False,
    )
    freeze_layers: float = declare(
        0.0,
        "Fraction of the layers, counted from the image, that are not trained, with their batch "
        "normalisation; 0: none.",
        minimum=0.0,
        maximum=0.99,
        inherited=False,
    )
    freeze_batch_norm: bool = declare(
        False,
        "Freeze batch normalisation: statistics, scales and offsets stay at their initial values.",
        inherited=False,
    )
    batch_norm_momentum: float | None = declare(
        None,
        "Momentum of batch normalisation's moving averages; empty: each layer's own.",
        minimum=0.0,
        maximum=0.999999,
        applies=("freeze_batch_norm", (False,)),
        inherited=False,
    )
    moving_average_decay: float = declare(
        0.0,
        "Decay of the exponential moving average (EMA) of the weights, which is evaluated and "
        "exported; 0: off.",
        minimum=0.0,
        maximum=0.999999,
    )
    sync_batch_norm: bool = declare(
        False, "Synchronise batch-normalisation statistics across devices."
    )
    precision: str = declare(
        "float32",
        "Compute dtype; variables stay float32.",
        choices=("float32", "mixed_bfloat16", "mixed_float16"),
        verbs=(*_OF_A_TRIAL, "evaluate"),
        is_exported=True,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class BackboneSettings:
    """The backbone spec, which trains without a class of your own, and the recipe."""

    RULES: ClassVar[Mapping[str, Any]] = {"verbs": _OF_IMAGES, **_BY_BACKBONE}

    backbone: str = declare(
        "",
        "Built-in backbone to train when no spec is given; tfic backbones lists them. tfic train "
        f"without a spec takes {DEFAULT_BACKBONE} if it is empty.",
        needs="",
    )
    from_model: str = declare(
        "",
        "Model folder of an earlier training to go on from, e.g. to add a class or after labels "
        "were corrected: its backbone, preprocessing, weights and outputs are taken over, new "
        "classes get new outputs, and its training set is added if the given one lacks some of "
        "its classes. The new model gets a folder of its own.",
        verbs=("train",),
        needs="",
        aliases=("from",),
        metavar="MODEL",
        resume="free",
        inherited=False,
    )
    recipe: str = declare(
        "none",
        "Hyperparameters from a built-in recipe (auto), chosen by dataset size, number of classes "
        "and warm start; any flag overrides it. The default of tfic train without a spec.",
        choices=("none", "auto"),
        verbs=(*_OF_A_RUN, "find-learning-rate", "preview"),
        needs="",
        facts=(),
        resume="free",
    )
    label_columns: tuple[str, ...] = declare(
        (), "Label columns of the CSV; empty: all columns except the image's."
    )
    label_kinds: tuple[str, ...] = declare(
        (),
        "Label kinds where the inferred ones are wrong, as name=kind: single-label, ordinal "
        "(ordered classes), multilabel (any number of classes, e.g. cat|dog) or regression.",
    )
    augmentation: str = declare(
        "crop",
        "Train-time augmentation: none, horizontal flip (flip), random translation (translate) or "
        "random resized crop (crop); with random erasing and color jitter (colour), RandAugment "
        "(rand) or TrivialAugment (trivial); or with AugMix (augmix).",
        choices=("none", "flip", "translate", "crop", "colour", "rand", "trivial", "augmix"),
    )
    crop_area: float = declare(
        0.35,
        "Minimum area fraction of the random resized crop; 0.08 is usual when training from "
        "scratch.",
        minimum=0.01,
        maximum=1.0,
        applies=("augmentation", ("crop", "colour", "rand", "trivial", "augmix")),
    )
    dropout: float = declare(
        0.2, "Dropout rate before the classifier.", minimum=0.0, maximum=0.99, verbs=_OF_A_TRIAL
    )
    eval_crop: float = declare(
        1.0,
        "Center-crop fraction at evaluation (timm: crop_pct), per side.",
        minimum=0.05,
        maximum=1.0,
        verbs=(*_OF_A_RUN, "preview"),
    )
    eval_stretch: float = declare(
        1.0,
        "Greatest change of an image's aspect ratio at evaluation, to crop less of wide and tall "
        "images: 1.33 shows the whole of a 4:3 photograph; 1: none.",
        minimum=1.0,
        maximum=100.0,
        verbs=(*_OF_A_RUN, "preview"),
    )
    pixel_scaling: str = declare(
        "",
        "Mean/standard deviation that the network's pixels are normalized with, of pixels from 0 "
        "to 1, e.g. 0.5/0.5 or three numbers each; empty: as published with the backbone, or as in "
        "the config.json beside the pretrained weights.",
        form=_form(pixel_scaling.FORM, pixel_scaling.is_pixel_scaling),
        verbs=_OF_A_TRIAL,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """Length of the run, computation of a step, and the loss."""

    RULES: ClassVar[Mapping[str, Any]] = {"verbs": _OF_A_TRIAL}

    train_steps: int | None = declare(
        None,
        "Total training steps, counted over restarts.",
        verbs=(*_OF_A_RUN, "find-learning-rate"),
        minimum=1,
        excludes="epochs",
        resume="free",
    )
    epochs: float | None = declare(
        None,
        "Length of the run in epochs; 10 if neither this nor train_steps is given.",
        verbs=(*_OF_A_RUN, "find-learning-rate"),
        minimum=0.001,
        resume="free",
    )
    gradient_accumulation_steps: int = declare(
        1,
        "Micro-batches per step, to save memory; must divide the batch size.",
        minimum=1,
        inherited=False,
    )
    steps_per_call: int = declare(
        1,
        "Training steps per call of the compiled function (Keras: steps_per_execution).",
        verbs=_OF_A_RUN,
        minimum=1,
        resume="free",
    )
    jit_compile: str = declare(
        "auto",
        "XLA compilation of the whole step (on), of the step on a single GPU and of the gradients "
        "of activations on CPUs (auto), or none (off).",
        choices=("auto", "on", "off"),
    )
    gradient_clip_norm: float = declare(
        0.0, "Maximum global norm of the gradient; 0: no clipping.", minimum=0.0
    )
    gradient_clip_value: float = declare(
        0.0,
        "Maximum absolute value of each gradient element; 0: no clipping.",
        minimum=0.0,
        excludes="gradient_clip_norm",
    )
    sam_rho: float = declare(
        0.0,
        "Sharpness-aware minimization (SAM): distance at which the gradient is taken uphill of the "
        "weights; 0: off, usual: 0.05. Each step takes twice the time.",
        minimum=0.0,
        inherited=False,
    )
    label_smoothing: float = declare(
        0.0,
        "Label smoothing: fraction of the target spread evenly over all classes.",
        minimum=0.0,
        maximum=0.999,
        verbs=(*_OF_A_TRIAL, "evaluate"),
        facts=("package_losses", "smoothable_label"),
        is_exported=True,
    )
    mixup_alpha: float = declare(
        0.0, "Mixup alpha; 0: off, usual: 0.2.", minimum=0.0, inherited=False
    )
    cutmix_alpha: float = declare(
        0.0,
        "CutMix alpha; 0: off, usual: 1.0. With mixup_alpha, each step takes one of the two at "
        "random.",
        minimum=0.0,
        inherited=False,
    )
    task_weights: str = declare(
        "fixed",
        "Weights of the labels' losses: those of class_dict (fixed), or learned with the model by "
        "uncertainty (learned).",
        choices=("fixed", "learned"),
    )
    balanced_sampling: str = declare(
        "",
        "Class label by whose classes training examples are sampled equally often; empty: "
        "uniform sampling.",
        verbs=_OF_IMAGES,
        inherited=False,
        **_BY_OWN_INPUT,
    )
    class_weights: str = declare(
        "none",
        "Weight the loss by inverse class frequency (balanced).",
        choices=("none", "balanced"),
        facts=("class_label",),
    )
    loss: str = declare(
        "cross_entropy",
        "Training loss of labels with classes: cross-entropy; focal, which weights well classified "
        "examples down; asymmetric, for multilabels with few classes an image; or logit_adjusted, "
        "for rare classes. Evaluations keep cross-entropy.",
        choices=("cross_entropy", "focal", "asymmetric", "logit_adjusted"),
        inherited=False,
        facts=("package_losses", "class_loss"),
    )
    focal_gamma: float = declare(
        2.0,
        "Gamma of the focal loss; 0: cross-entropy.",
        minimum=0.0,
        applies=("loss", ("focal",)),
        inherited=False,
    )
    asymmetric_gamma_pos: float = declare(
        1.0,
        "Gamma of the asymmetric loss for the classes that an image has.",
        minimum=0.0,
        applies=("loss", ("asymmetric",)),
        inherited=False,
    )
    asymmetric_gamma_neg: float = declare(
        4.0,
        "Gamma of the asymmetric loss for the classes that an image does not have.",
        minimum=0.0,
        applies=("loss", ("asymmetric",)),
        inherited=False,
    )
    asymmetric_clip: float = declare(
        0.05,
        "Probability below which a class that an image does not have adds nothing to the "
        "asymmetric loss.",
        minimum=0.0,
        maximum=0.999,
        applies=("loss", ("asymmetric",)),
        inherited=False,
    )
    logit_adjustment_tau: float = declare(
        1.0,
        "Factor of the logarithm of the class frequencies in the logit-adjusted loss; 0: "
        "cross-entropy.",
        minimum=0.0,
        applies=("loss", ("logit_adjusted",)),
        inherited=False,
    )
    teacher: tuple[str, ...] = declare(
        (),
        "Distillation: model folders whose predictions of the same augmented images the model "
        "learns beside the labels; of several, their mean.",
        separator="",
        resume="free",
        inherited=False,
        facts=("distilled_label",),
        metavar="DIR",
    )
    distillation_temperature: float = declare(
        2.0,
        "Temperature that softens the probabilities of teacher and model.",
        minimum=0.01,
        needs="teacher",
        inherited=False,
    )
    distillation_weight: float = declare(
        0.5,
        "Weight of the teacher's predictions in the loss; that of the labels is 1 minus it.",
        minimum=0.0,
        maximum=1.0,
        needs="teacher",
        inherited=False,
    )
    regression_loss: str = declare(
        "mean_squared",
        "Loss of regression labels.",
        choices=("mean_squared", "huber"),
        verbs=(*_OF_A_TRIAL, "evaluate"),
        facts=("package_losses", "regression_label"),
        is_exported=True,
    )
    huber_delta: float = declare(
        1.0,
        "Delta of the Huber loss, in units of the label.",
        minimum=1e-12,
        verbs=(*_OF_A_TRIAL, "evaluate"),
        applies=("regression_loss", ("huber",)),
        facts=("package_losses", "regression_label"),
        is_exported=True,
    )
    early_stopping_patience: int = declare(
        0,
        "Early stopping: evaluations without improvement of best_metric; 0: off.",
        verbs=_OF_ONE_RUN,
        minimum=0,
        resume="free",
        **_BY_EVALUATION,
    )


_ADAM_LIKE = ("adam", "adamw", "lamb", "lion", "muon")


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerSettings:
    """The optimizer and its hyperparameters."""

    RULES: ClassVar[Mapping[str, Any]] = {"verbs": _OF_A_TRIAL, "inherited": False}

    optimizer: str = declare(
        "adamw",
        "Optimizer.",
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
        "Decoupled weight decay, scaled by the learning rate; not for biases and normalisation. "
        "None: 0.05 for adamw, lamb, lion and muon, 4e-5 for momentum and sgd, else 0.",
        minimum=0.0,
    )
    opt_epsilon: float | None = declare(
        None,
        "Epsilon for numerical stability; None: the published default of the optimizer.",
        minimum=0.0,
        applies=("optimizer", ("adadelta", "adagrad", "adam", "adamw", "lamb", "muon", "rmsprop")),
    )
    adadelta_rho: float = declare(
        0.95,
        "Decay rate of adadelta's averages.",
        minimum=0.0,
        maximum=1.0,
        applies=("optimizer", ("adadelta",)),
    )
    adagrad_initial_accumulator_value: float = declare(
        0.1,
        "Initial value of adagrad's accumulators.",
        minimum=0.0,
        applies=("optimizer", ("adagrad",)),
    )
    adam_beta1: float | None = declare(
        None,
        "Exponential decay rate of the first moment. None: 0.9.",
        minimum=0.0,
        maximum=1.0,
        applies=("optimizer", _ADAM_LIKE),
    )
    adam_beta2: float | None = declare(
        None,
        "Exponential decay rate of the second moment. None: 0.99 for lion, else 0.999.",
        minimum=0.0,
        maximum=1.0,
        applies=("optimizer", _ADAM_LIKE),
    )
    ftrl_learning_rate_power: float = declare(
        -0.5,
        "Power of the accumulators in ftrl's learning rate.",
        maximum=0.0,
        applies=("optimizer", ("ftrl",)),
    )
    ftrl_initial_accumulator_value: float = declare(
        0.1, "Initial value of ftrl's accumulators.", minimum=0.0, applies=("optimizer", ("ftrl",))
    )
    ftrl_l1: float = declare(
        0.0, "ftrl's L1 regularisation strength.", minimum=0.0, applies=("optimizer", ("ftrl",))
    )
    ftrl_l2: float = declare(
        0.0, "ftrl's L2 regularisation strength.", minimum=0.0, applies=("optimizer", ("ftrl",))
    )
    momentum: float | None = declare(
        None,
        "Momentum. None: 0.95 for muon, else 0.9.",
        minimum=0.0,
        maximum=1.0,
        applies=("optimizer", ("momentum", "muon")),
    )
    nesterov: bool = declare(False, "Nesterov momentum.", applies=("optimizer", ("momentum",)))
    rmsprop_momentum: float = declare(
        0.9, "rmsprop's momentum.", minimum=0.0, maximum=1.0, applies=("optimizer", ("rmsprop",))
    )
    rmsprop_decay: float = declare(
        0.9,
        "Decay rate of rmsprop's average.",
        minimum=0.0,
        maximum=1.0,
        applies=("optimizer", ("rmsprop",)),
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScheduleSettings:
    """The learning-rate schedule."""

    RULES: ClassVar[Mapping[str, Any]] = {"verbs": _OF_A_RUN, "inherited": False}

    learning_rate: float = declare(1e-3, "Peak learning rate.", minimum=0.0)
    learning_rate_decay_type: str = declare(
        "cosine",
        "Learning-rate schedule.",
        choices=("fixed", "exponential", "polynomial", "cosine", "one_cycle"),
    )
    end_learning_rate: float = declare(
        0.0,
        "Final learning rate.",
        minimum=0.0,
        applies=("learning_rate_decay_type", ("polynomial", "cosine", "one_cycle")),
    )
    learning_rate_decay_factor: float = declare(
        0.94,
        "Factor of each exponential decay.",
        minimum=0.0,
        maximum=1.0,
        applies=("learning_rate_decay_type", ("exponential",)),
    )
    num_epochs_per_decay: float = declare(
        2.0,
        "Epochs between exponential decays.",
        minimum=1e-6,
        applies=("learning_rate_decay_type", ("exponential",)),
    )
    polynomial_power: float = declare(
        1.0,
        "Power of the polynomial; 1: linear.",
        minimum=1e-6,
        applies=("learning_rate_decay_type", ("polynomial",)),
    )
    one_cycle_warmup: float = declare(
        0.3,
        "Warmup fraction of the one-cycle schedule.",
        minimum=0.0,
        maximum=0.99,
        applies=("learning_rate_decay_type", ("one_cycle",)),
    )
    warmup_steps: int = declare(
        0,
        "Steps of linear warmup from 0.",
        minimum=0,
        applies=("learning_rate_decay_type", ("fixed", "exponential", "polynomial", "cosine")),
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckpointSettings:
    """Checkpoints, logs, trackers and the exported model."""

    RULES: ClassVar[Mapping[str, Any]] = {
        "verbs": _OF_A_RUN,
        "resume": "free",
    }

    save_summary_steps: int = declare(
        100, "Steps between TensorBoard summaries; 0: none.", minimum=0
    )
    save_checkpoints_steps: int | None = declare(
        None, "Steps between checkpoints.", minimum=1, excludes="save_checkpoints_secs"
    )
    save_checkpoints_secs: float | None = declare(
        None, "Seconds between checkpoints; 600 if neither is given.", minimum=0.0
    )
    keep_checkpoint_max: int = declare(
        5,
        "Recent checkpoints to keep besides the best one and those that an evaluator task still "
        "has to evaluate (at most 20); -1: all.",
        minimum=-1,
        form=_form(
            "1 or more, or -1 for all: a run needs its newest checkpoint to resume",
            lambda count: count != 0,
        ),
    )
    export_saved_model: bool = declare(
        True, "At the end, export a SavedModel that takes encoded images.", **_BY_OWN_INPUT
    )
    export_dir: str = declare(
        "",
        "Folder for a copy of the exported model; may be gs://.",
        verbs=_OF_ONE_RUN,
        needs="export_saved_model",
        **_BY_OWN_INPUT,
    )
    tensorboard_dir: str = declare(
        "",
        "Folder of the TensorBoard logs; empty: tensorboard in model_dir.",
        verbs=_OF_ONE_RUN,
        needs="save_summary_steps",
    )
    trackers: tuple[str, ...] = declare(
        (),
        "Experiment trackers to log to: mlflow, wandb; below model_dir unless their environment "
        "variables name a server.",
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluationSettings:
    """Evaluation during training, and the best checkpoint."""

    RULES: ClassVar[Mapping[str, Any]] = {
        "verbs": _OF_ONE_RUN,
        "resume": "free",
        **_BY_EVALUATION,
    }

    eval_freq: int = declare(0, "Batches per evaluation; 0: the whole evaluation set.", minimum=0)
    eval_throttle_secs: float = declare(
        120.0, "Minimum seconds between evaluations during training.", minimum=0.0
    )
    eval_every_steps: int | None = declare(
        None,
        "Evaluate every so many steps instead of by wall-clock time.",
        minimum=1,
        excludes="eval_throttle_secs",
    )
    evaluator: str = declare(
        "auto",
        "Evaluation in a cluster: by its evaluator task, on every checkpoint (task); by the "
        "workers together (workers); by the task if the cluster has one (auto).",
        choices=("auto", "workers", "task"),
    )
    test_time_augmentation: str = declare(
        "none",
        "Test-time augmentation (TTA) in evaluations and in the exported model: average the "
        "outputs of the image and its mirror image (flip), each also shifted both ways along the "
        "diagonal by 1/32 of the side (flip_shift).",
        choices=("none", "flip", "flip_shift"),
        verbs=(*_OF_A_RUN, "evaluate"),
        needs="",
        resume="same",
        is_exported=True,
    )
    best_metric: str = declare(
        "",
        "Metric that selects the best checkpoint: one of the spec's or of "
        "docs/reference/metrics.md; empty: the loss.",
    )
    best_mode: str = declare(
        "auto",
        "Direction of best_metric: max, min, or by its name (auto).",
        choices=("auto", "max", "min"),
        needs="best_metric",
    )
    slice_column: str = declare(
        "",
        "Column of the evaluation set that defines slices for worst_slice_accuracy, which "
        "best_metric can name.",
    )
    unknown_rate: float = declare(
        0.05,
        "Largest fraction of pictures of known classes that may be refused as showing none of the "
        "classes; sets the limit of unknown_score. 0: no score.",
        verbs=(*_OF_A_RUN, "evaluate"),
        needs="export_saved_model",
        inherited=True,
        form=_form("a fraction from 0 to 0.5, e.g. 0.05 for 5 %", lambda rate: 0 <= rate <= 0.5),
        **_BY_OWN_INPUT,
    )
    unknown_examples: tuple[str, ...] = declare(
        (),
        "Pictures of none of the classes, in the forms of tfic predict: they choose the distance "
        "behind unknown_score and measure how many are recognised; never trained on.",
        separator="",
        verbs=(*_OF_A_RUN, "evaluate"),
        needs="unknown_rate",
        inherited=True,
        metavar="PATHS",
        **_BY_OWN_INPUT,
    )
    output_cm_folder: str = declare(
        "",
        "Folder for the confusion matrices of the class labels, as PNG files.",
        verbs=(*_OF_ONE_RUN, "evaluate"),
        facts=("class_label", "drawable_matrix"),
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class FileSettings:
    """The settings file."""

    RULES: ClassVar[Mapping[str, Any]] = {"verbs": _OF_ALL_IMAGES}

    config: str = declare("", "YAML file of settings, name: value; flags override it.")
    print_config: bool = declare(
        False, "Print the resolved settings and their origins as YAML, and exit."
    )


GROUPS: Mapping[str, type[Any]] = {
    "run": RunSettings,
    "data": DataSettings,
    "model": ModelSettings,
    "backbone_spec": BackboneSettings,
    "training": TrainingSettings,
    "optimizer": OptimizerSettings,
    "schedule": ScheduleSettings,
    "checkpoints": CheckpointSettings,
    "evaluation": EvaluationSettings,
}
"""The groups by the attribute of ``Settings`` that holds them."""

OPTIONS: Mapping[str, Option] = {
    option.name: option for name, group in GROUPS.items() for option in options_of(name, group)
}
"""Every setting of a run by its name."""

FILE_OPTIONS: Mapping[str, Option] = {o.name: o for o in options_of("settings file", FileSettings)}
"""The options that concern all settings together."""

ALIASES: Mapping[str, str] = {a: o.name for o in OPTIONS.values() for a in o.aliases}
