"""What people search for, and the page that answers it: the site's search lists that page first.

A word of this table is an index entry of its page. A query finds an entry that contains it and is
at most twice as long.
"""

from __future__ import annotations

WORDS = {
    "start/install": ("install", "pip install", "requirements", "Windows", "macOS", "GPU setup"),
    "start/tutorial": ("tutorial", "quick start", "getting started", "example data", "first model"),
    "start/examples": ("MNIST", "example programs", "notebook"),
    "guides/few_pictures": ("few pictures", "few images", "small data set", "how many images"),
    "guides/unbalanced_classes": ("unbalanced classes", "class imbalance", "rare class"),
    "guides/overfitting": ("overfitting", "regularization", "dropout"),
    "guides/is_it_good_enough": ("good enough", "accuracy too low", "compare two models"),
    "guides/may_it_replace": (
        "release gate",
        "equivalence test",
        "non-inferiority",
        "regression test of a model",
        "A/B comparison",
    ),
    "guides/add_a_class": (
        "add a class",
        "new class",
        "incremental learning",
        "continual learning",
        "catastrophic forgetting",
        "from_model",
    ),
    "guides/which_pictures_hurt": ("worst errors", "error analysis", "slices"),
    "guides/wrong_labels": ("wrong labels", "label errors", "label noise", "mislabelled"),
    "guides/leaks_and_groups": (
        *("leakage", "data leak", "groups", "frames of a video", "patients", "bursts"),
    ),
    "guides/unknown_pictures": (
        "none of my classes",
        "unknown class",
        "out of distribution",
        "OOD",
        "open set",
        "unknown_score",
        "is_unknown",
    ),
    "explanations/unknown-pictures": ("conformal limit", "Mahalanobis", "nearest neighbours"),
    "guides/several_labels": ("multilabel", "several labels", "multi-task", "tags"),
    "guides/ages_and_grades": ("regression", "ordinal", "age", "grade"),
    "guides/broken_files": ("broken file", "corrupt image", "truncated JPEG", "bad images"),
    "guides/slow_input": ("slow input", "data loading", "input bottleneck"),
    "guides/slow_training": ("slow training", "speed up training", "training time"),
    "guides/phone_answers_differently": (
        "phone",
        "different predictions",
        "preprocessing mismatch",
        "Android",
        "iOS",
    ),
    "guides/laptop_to_cluster": ("laptop to cluster", "Ray"),
    "guides/privacy": ("privacy", "telemetry", "offline", "personal data", "GDPR"),
    "guides/eu_ai_act": ("AI Act", "compliance", "audit"),
    "topics/data": ("data formats", "CSV", "TFRecord", "folder of images", "held-out examples"),
    "topics/labelling": (
        "active learning",
        "which images to label",
        "more labels",
        "enough data",
        "learning curve",
    ),
    "topics/own_model": ("own model", "custom model", "EstimatorSpec", "own network"),
    "topics/finetune": (
        "fine-tuning",
        "transfer learning",
        "mixup",
        "augmentation",
        "freeze layers",
        "focal loss",
        "asymmetric loss",
        "logit adjustment",
        "long tail",
        "distillation",
        "teacher student",
        "SAM",
        "AugMix",
        "sharpness-aware minimization",
    ),
    "topics/combine": ("ensemble", "model soup", "weight averaging", "combine models"),
    "topics/evaluate": ("confusion matrix", "calibration", "threshold", "ROC AUC", "report"),
    "topics/cross_validation": (
        "cross-validation",
        "k-fold",
        "leave one group out",
        "stratified folds",
    ),
    "topics/serve": ("serving", "REST API", "Prometheus", "Dockerfile", "Docker", "Triton"),
    "topics/export": (
        "export",
        "TFLite",
        "LiteRT",
        "ONNX",
        "int8",
        "quantization",
        "MediaPipe",
        "browser",
    ),
    "topics/tune": ("hyperparameter search", "Optuna", "grid search"),
    "topics/stopping": (
        "resume after a kill",
        "resume training",
        "preemption",
        "Ctrl-C",
        "full disk",
    ),
    "topics/cluster": ("Slurm", "several GPUs", "distributed training", "TF_CONFIG"),
    "topics/cloud": ("Vertex AI", "Kubernetes", "cloud job"),
    "topics/storage": ("Google Cloud Storage", "gs://", "bucket"),
    "explanations/intervals": ("confidence interval", "error bars", "significance"),
    "explanations/exact-runs": (
        "reproducible seed",
        "deterministic",
        "bit-identical",
        "random seed",
    ),
    "explanations/export-verification": ("export verification", "parity"),
    "reference/errors": ("exit status", "exit status 75", "error classes"),
    "reference/licenses": ("licence", "license", "dependencies", "SBOM"),
    "reference/environment": ("environment variables",),
}
"""By page the words; the first letter's case does not count."""


def with_entries(name: str, text: str) -> str:
    """A page's text with its words as index entries below its title."""
    title, line, rest = text.partition("\n")
    if not title.startswith("# ") or name not in WORDS:
        return text
    entries = ", ".join(f"! {word}" for word in WORDS[name])
    return f"{title}{line}\n```{{index}} {entries}\n```\n{rest}"
