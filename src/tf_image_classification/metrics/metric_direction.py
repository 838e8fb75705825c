"""Whether a higher or a lower value of a metric is better, from its name."""

from __future__ import annotations

import re

from tf_image_classification.errors import ConfigError
from tf_image_classification.metrics.definitions import find_metric

# Words of metric names; _REVERSING are those that can reverse the meaning of another word.
# fmt: off
_HIGHER = {
    "acc", "accuracy", "agreement", "ap", "auc", "aucpr", "aucroc", "auprc", "auroc",
    "correct", "dice", "f1", "fbeta", "fscore", "iou", "jaccard", "kappa", "likelihood",
    "map", "match", "mcc", "miou", "precision", "r2", "recall", "sensitivity", "similarity",
    "specificity", "top1", "top5", "true", "within",
}
_LOWER = {
    "bce", "brier", "cce", "crossentropy", "deviation", "deviance", "distance",
    "divergence", "ece", "entropy", "err", "error", "errors", "false", "hinge", "kl",
    "loss", "losses", "mae", "mape", "mce", "mse", "msle", "nll", "perplexity", "rmse",
    "wer", "wrong",
}
_REVERSING = {
    "delta", "difference", "drop", "gap", "inverse", "minus", "neg", "negative", "ratio",
    "std", "variance",
}
# fmt: on


def higher_is_better(metric_name: str) -> bool:
    """Whether a higher value is better: by the table of metrics, else by the words of the name.

    A label's name before a slash is ignored.

    Raises:
        ConfigError: the name decides neither.

    Example:
        >>> higher_is_better("age/mean_absolute_error")
        False
    """
    known = find_metric(metric_name)
    if known is not None and known.higher_is_better is not None:
        return known.higher_is_better
    words = set(re.split(r"[^a-z0-9]+", metric_name.rpartition("/")[2].lower()))
    is_higher, is_lower = bool(words & _HIGHER), bool(words & _LOWER)
    if is_higher == is_lower or words & _REVERSING:
        raise ConfigError(
            f"best_metric {metric_name!r}: the name does not show whether higher or lower is "
            "better. Set best_mode to max or min."
        )
    return is_higher
