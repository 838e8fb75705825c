"""Every setting of a run, declared once, in groups.

Flags, the YAML file, the README's table and the record in the model folder all come from these
dataclasses.
"""

from __future__ import annotations

import dataclasses

from tf_image_classification.config.options import declare

DEFAULT_MAX_PIXELS = 100_000_000
"""Default of the largest number of pixels of an image."""

IMAGENET = "imagenet"
"""What ``checkpoint_path`` calls the weights that Keras has for a backbone."""


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
        "Feature of a TFRecord, or column, that holds a label, as label=feature, when it has "
        "another name.",
        resume="free",
    )
    data_service: str = declare(
        "",
        "tf.data service, grpc://host:port, whose machines read and preprocess the training "
        "examples; in the order in which they are ready, so only with nodeterministic.",
        resume="free",
    )
    inspect: bool = declare(
        True,
        "Before the first step, count the classes, and refuse an evaluation set of which more than "
        "a twentieth is in the training set too, byte for byte, and 16-bit PNGs that would be "
        "black. The training set itself may be evaluated, with a warning.",
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
        DEFAULT_MAX_PIXELS,
        "Images with more pixels than this are bad images.",
        minimum=1,
        resume="free",
    )
    png16_range: str = declare(
        "full",
        "Values of 16-bit PNGs that become 0 and 255, e.g. 0-4095 for images of 12 bits; full is "
        "0-65535; measured: those of the training images. Stored with the model.",
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
    batch_norm_momentum: float | None = declare(
        None,
        "Share that batch normalisation's moving averages keep at each step; empty: as each layer "
        "says.",
        minimum=0.0,
        maximum=0.999999,
        applies=("freeze_batch_norm", (False,)),
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
class BackboneSettings:
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
    label_columns: tuple[str, ...] = declare(
        (), "Columns of the CSV that are labels; empty: all but the image's."
    )
    label_kinds: tuple[str, ...] = declare(
        (),
        "Kinds of labels where they are not what they look like, as name=kind: class, ordinal "
        "(classes in order), several (any number of classes, as in cat|dog) or value.",
    )
    augmentation: str = declare(
        "crop",
        "What happens to training images: nothing; mirroring (flip); moving as well (translate) or "
        "random parts as well (crop); and then colours (colour), RandAugment (rand) or "
        "TrivialAugment (trivial), with erasing.",
        choices=("none", "flip", "translate", "crop", "colour", "rand", "trivial"),
    )
    crop_area: float = declare(
        0.35,
        "Least share of a training image's area that a random part has; 0.08 is usual where a "
        "network is trained from scratch.",
        minimum=0.01,
        maximum=1.0,
        applies=("augmentation", ("crop", "colour", "rand", "trivial")),
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
        0.0,
        "Largest magnitude of one number of the gradient; 0: no limit.",
        minimum=0.0,
        excludes="gradient_clip_norm",
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
    task_weights: str = declare(
        "fixed",
        "How the losses of several labels are added: by the weights of class_dict (fixed), or by "
        "weights learned with the model, less for a label that stays uncertain (learned).",
        choices=("fixed", "learned"),
    )
    balanced_sampling: str = declare(
        "", "Class label whose classes are drawn equally often in training; empty: each example is."
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
        5,
        "Checkpoints kept besides the best one, and those that an evaluator task still has to "
        "evaluate (at most 20); -1 keeps all.",
        minimum=-1,
        resume="free",
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
    trackers: tuple[str, ...] = declare(
        (),
        "Where else the numbers go: mlflow, wandb; below model_dir unless their own environment "
        "variables name a server.",
        resume="free",
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
    test_time_augmentation: str = declare(
        "none",
        "Views of an image whose outputs are averaged, in evaluations and in the exported model: "
        "itself and its mirror image (flip), each also moved both ways along the diagonal by a "
        "32nd of the side (flip_shift).",
        choices=("none", "flip", "flip_shift"),
    )
    best_metric: str = declare(
        "",
        "Metric that chooses the best checkpoint: one of the spec's, or of those in "
        "docs/evaluate.md; empty: the loss.",
        resume="free",
    )
    best_mode: str = declare(
        "auto",
        "Whether more or less of best_metric is better; auto: by its name.",
        choices=("auto", "max", "min"),
        resume="free",
    )
    slice_column: str = declare(
        "",
        "Column of the evaluation set's CSV or records by whose values examples are told apart: "
        "worst_slice_accuracy, which best_metric may name, is the accuracy of the worst value.",
        resume="free",
    )
    output_cm_folder: str = declare(
        "", "Folder for the confusion matrix of each class label as a PNG.", resume="free"
    )
