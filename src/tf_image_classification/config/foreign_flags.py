"""Names of flags in earlier versions and other programs, and what to write instead.

Programs: TF-Slim and ML Engine, Keras ``fit``, timm, Ultralytics, fastai, AutoGluon, Model Maker.
"""

from __future__ import annotations

from collections.abc import Collection

from tf_image_classification.config.parser import names_of_flag

GONE = {
    "shuffle": "Examples are shuffled; --debug keeps their order.",
    "sync_replicas": "Workers always train synchronously. Remove it.",
    "replicas_to_aggregate": "Workers always train synchronously. Remove it.",
    "job_dir": "Use --model_dir.",
}
"""Flags of the first version and of ML Engine that have no successor of their name."""

_OPTIONS = {
    "train_metadata": (
        *("data", "data_dir", "dataset", "dataset_dir", "train_data", "train_dir", "image_dir"),
        "training_data",
    ),
    "eval_metadata": (
        *("val_data", "val_dir", "eval_data", "test_data", "validation_data", "valid"),
        "data_val",
    ),
    "eval_split": (
        *("val_split", "validation_split", "validation_percentage", "testing_percentage"),
        *("valid_pct", "test_size", "holdout_frac"),
    ),
    "model_dir": (
        *("output_dir", "out_dir", "logdir", "project", "save_dir", "name", "experiment", "output"),
        "checkpoint_dir",
    ),
    "train_steps": (
        *("max_number_of_steps", "how_many_training_steps", "training_steps", "max_steps"),
        *("steps", "num_steps", "iterations", "max_iter"),
    ),
    "epochs": ("e", "num_epochs", "n_epochs", "n_epoch", "epoch", "max_epochs"),
    "batch_size": ("b", "bs", "batch", "train_batch_size", "validation_batch_size"),
    "image_size": (
        *("imgsz", "img_size", "input_size", "size", "img", "resize", "target_size"),
        *("input_shape", "train_image_size", "img_height", "img_width"),
    ),
    "learning_rate": ("lr", "lr0", "base_lr", "initial_learning_rate", "init_lr"),
    "end_learning_rate": ("lrf", "min_lr"),
    "learning_rate_decay_type": (
        *("sched", "lr_scheduler", "scheduler", "lr_schedule", "learning_rate_schedule", "cos_lr"),
    ),
    "optimizer": ("opt", "optim"),
    "weight_decay": ("wd", "decay", "l2"),
    "layer_decay": ("lr_mult",),
    "gradient_clip_norm": ("clip_grad", "clip_norm", "clipnorm", "grad_clip", "max_grad_norm"),
    "gradient_accumulation_steps": (
        *("grad_accum_steps", "accum_steps", "accumulate", "grad_accum"),
    ),
    "early_stopping_patience": (
        "patience",
        "early_stopping",
        "early_stop",
        "early_stopping_rounds",
    ),
    "best_metric": ("monitor", "eval_metric", "best_model_metric"),
    "checkpoint_path": (
        *("weights", "pretrained", "initial_checkpoint", "pretrained_path"),
        *("checkpoint", "init_checkpoint", "load_weights", "pretrained_model"),
    ),
    "from_model": (
        *("base_model", "resume_from", "start_from", "continue_from", "finetune_from"),
        *("from_checkpoint", "previous_model", "init_from", "from_pretrained"),
    ),
    "backbone": ("model", "arch", "network", "model_name", "model_spec", "architecture"),
    "freeze_layers": ("freeze", "frozen_layers"),
    "dropout": ("drop", "drop_rate", "dropout_rate"),
    "augmentation": (
        *("aug", "aa", "auto_augment", "reprob", "erasing", "random_erasing", "augment"),
        *("preprocessing_name", "use_augmentation"),
    ),
    "label_smoothing": ("smoothing",),
    "class_weights": ("class_weight", "weighted", "balanced", "cls_pw", "class_balance"),
    "teacher": (
        *("teacher_model", "teacher_path", "teacher_checkpoint", "teacher_dir", "teacher_weights"),
        *("kd", "distill", "distillation", "distil", "kd_model_name", "distillation_type"),
    ),
    "distillation_temperature": ("temperature", "kd_temperature", "distillation_tau", "kd_temp"),
    "distillation_weight": ("alpha", "kd_alpha", "distillation_alpha", "kd_loss_weight"),
    "labels": ("class_map", "classes", "class_names", "label_file"),
    "label_kinds": ("multi_label", "multilabel", "task", "problem_type"),
    "precision": ("amp", "fp16", "bf16", "half", "mixed_precision", "amp_dtype"),
    "moving_average_decay": ("model_ema", "model_ema_decay", "ema", "ema_decay"),
    "sync_batch_norm": ("sync_bn", "sync_batchnorm"),
    "jit_compile": ("torchcompile", "compile", "xla"),
    "test_time_augmentation": ("tta",),
    "trackers": ("wandb", "log_wandb", "mlflow", "report_to", "logger"),
    "eval_crop": ("crop_pct",),
    "pixel_scaling": ("mean", "std"),
    "reject_below": ("conf", "threshold", "min_confidence", "confidence"),
    "top_k": ("topk", "k"),
    "paths": ("source", "input", "images", "image", "img_dir"),
    "format": ("include", "export_format", "to"),
    "quantize": ("int8", "half", "fp16", "float16", "quantization"),
}
"""By option: its names in other programs."""

_ADVICE = {
    "epochs": {
        **dict.fromkeys(
            ("freeze_epochs", "fine_tune"), "Use --epochs, --head_phase and --freeze_layers."
        ),
        "steps_per_epoch": "An epoch is each example once; --train_steps sets the length in steps.",
        "warmup_epochs": "Use --warmup_steps, in steps; --plan prints the steps of an epoch.",
    },
    "sam_rho": dict.fromkeys(
        ("sam", "use_sam", "rho", "asam", "sharpness_aware", "sam_optimizer"), "Use --sam_rho 0.05."
    ),
    "strategy": {
        **dict.fromkeys(
            (
                "device",
                "devices",
                "gpu",
                "gpus",
                "num_gpus",
                "gpu_ids",
                "num_clones",
                "clone_on_cpu",
            ),
            "All GPUs are used; CUDA_VISIBLE_DEVICES in the environment selects some, and "
            "--strategy one_device takes one.",
        )
    },
    "input_mode": {
        **dict.fromkeys(
            ("workers", "num_workers", "j", "num_readers", "num_preprocessing_threads"),
            "The input pipeline uses all cores. Remove it.",
        ),
        **dict.fromkeys(
            ("cache", "cache_images"),
            "Small sets are cached without a flag; tfic convert makes larger ones fast. Remove it.",
        ),
    },
    "labels": {
        **dict.fromkeys(
            ("num_classes", "nc", "n_classes", "num_labels", "labels_offset"),
            "The classes are those of the training set. Remove it.",
        )
    },
    "train_metadata": {
        **dict.fromkeys(
            ("kfold", "folds", "cv", "k_fold", "n_splits", "cross_validation"),
            "That is a verb: tfic cross-validate DATA --folds 5.",
        ),
        **dict.fromkeys(
            ("dataset_name", "dataset_split_name"),
            "Give the files by --train_metadata; tfds:NAME reads a set of TensorFlow Datasets.",
        ),
    },
    "eval_metadata": {"split": "Write the split after the path, e.g. pets:test."},
    "loss": {
        **dict.fromkeys(
            ("focal", "focal_loss", "use_focal_loss", "focal_loss_gamma", "fl_gamma", "gamma"),
            "Use --loss focal; --focal_gamma sets its gamma.",
        ),
        **dict.fromkeys(
            ("asl", "asymmetric_loss", "gamma_neg", "gamma_pos", "asl_loss"),
            "Use --loss asymmetric, with --asymmetric_gamma_neg, --asymmetric_gamma_pos and "
            "--asymmetric_clip.",
        ),
        **dict.fromkeys(
            ("logit_adjustment", "logit_adjust", "logit_adj", "tau", "la_loss"),
            "Use --loss logit_adjusted; --logit_adjustment_tau sets its factor.",
        ),
        **dict.fromkeys(
            ("criterion", "loss_fn", "loss_function", "loss_name", "loss_type", "bce_loss"),
            "The loss follows from the kind of the label; --loss sets another training loss, "
            "losses() of a spec any.",
        ),
    },
    "checkpoint_path": {
        **dict.fromkeys(
            ("scratch", "from_scratch", "no_pretrained", "nopretrained"),
            "Use --checkpoint_path none.",
        )
    },
    "train_steps": {"resume": "The same command resumes an interrupted run."},
}
"""By an option that the verb must have: names without a counterpart, with a sentence."""


def explain_flag(flag: str, known: Collection[str]) -> str:
    """The message for a flag of an earlier version or of another program; "" for another one.

    Args:
        flag: as it was typed.
        known: the names of the options that there are.

    Example:
        >>> explain_flag("--val-split", ["eval_split", "epochs"])
        'Unknown flag --val-split. Use --eval_split.'
    """
    for name in names_of_flag(flag):
        advice = advice_for(name, known)
        if advice:
            return f"Unknown flag {flag}. {advice}"
    return ""


def advice_for(name: str, known: Collection[str]) -> str:
    """What to write in place of a name of an earlier version or of another program, or "".

    Args:
        name: with underscores.
        known: the names of the options that there are.

    Example:
        >>> advice_for("patience", ["early_stopping_patience"])
        'Use --early_stopping_patience.'
    """
    if name in GONE:
        return GONE[name]
    for option, sentences in _ADVICE.items():
        if option in known and name in sentences:
            return sentences[name]
    for option, names in _OPTIONS.items():
        if option in known and name in names:
            return f"Use --{option}."
    return ""
