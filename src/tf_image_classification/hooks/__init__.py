"""Actions during training: the base class, the built-in hooks, and the triggers."""

from tf_image_classification.hooks.base import EvaluatedRun, EvaluationHook, Hook, Run
from tf_image_classification.hooks.cadence import Every
from tf_image_classification.hooks.checkpoints import (
    BestCheckpointHook,
    CheckpointHook,
    LoadCheckpointHook,
)
from tf_image_classification.hooks.keras_callbacks import IteratorInitializerHook, KerasCallbackHook
from tf_image_classification.hooks.metric_file import MetricFileHook
from tf_image_classification.hooks.phases import UnfreezeHook
from tf_image_classification.hooks.progress import ProgressHook
from tf_image_classification.hooks.stopping import EarlyStoppingHook, NonFiniteLossHook
from tf_image_classification.hooks.summaries import EvaluationSummaryHook, SummaryHook
from tf_image_classification.hooks.trackers import MlflowHook, WandbHook, tracker_hook

__all__ = [
    "BestCheckpointHook",
    "CheckpointHook",
    "EarlyStoppingHook",
    "EvaluatedRun",
    "EvaluationHook",
    "EvaluationSummaryHook",
    "Every",
    "Hook",
    "IteratorInitializerHook",
    "KerasCallbackHook",
    "LoadCheckpointHook",
    "MetricFileHook",
    "MlflowHook",
    "NonFiniteLossHook",
    "ProgressHook",
    "Run",
    "SummaryHook",
    "UnfreezeHook",
    "WandbHook",
    "tracker_hook",
]
