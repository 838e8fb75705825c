"""``train`` with data and options from Python."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tf_image_classification.classifier.model import Classifier
from tf_image_classification.classifier.options import settings_of
from tf_image_classification.config import Settings
from tf_image_classification.errors import UsageError
from tf_image_classification.workflows.run import run, run_backbone
from tf_image_classification.workflows.setup.environment import job_folders, prepare_tensorflow

if TYPE_CHECKING:
    from tf_image_classification.estimator_specs import EstimatorSpec


def train(
    data: Any,
    settings: Settings | None,
    options: Mapping[str, Any],
    *,
    spec: EstimatorSpec | None = None,
    hooks: Sequence[Any] = (),
) -> Classifier:
    """Train a spec, or a built-in backbone with the labels of the data.

    Args:
        data: training set, see ``stored_source``; None: that of the options.
        settings: settings that the options override; None: the defaults.
        options: see ``settings_of``.
        spec: the classifier; None: a built-in backbone.
        hooks: further hooks or Keras callbacks.

    Raises:
        UsageError: there is nothing to train on, or ``settings`` are none.
        TficError: any other error, before the first step if possible.
    """
    if settings is not None and not isinstance(settings, Settings):
        raise UsageError(
            f"The second argument of train is {type(settings).__name__}, expected settings. "
            f"{_right_call(settings)}"
        )
    if data is not None:
        options = {"train_metadata": data, **options}
    if options or settings is None:
        prepare_tensorflow(settings or Settings())
        settings = settings_of(options, settings, job_folders())
    if spec is not None:
        return Classifier(run(spec, settings, hooks), spec)
    if not settings.data.train_metadata and not settings.run.evaluate:
        raise UsageError(
            "There is nothing to train on. Give the examples: train('pets'), a folder with a "
            "folder of images for each class, a CSV, TFRecord files, (images, labels) or a table."
        )
    return Classifier(run_backbone(settings, hooks))


def _right_call(second: Any) -> str:
    """A sentence with the right call for a second argument that is no settings."""
    if isinstance(second, str):
        return f"Name an evaluation set: train(data, eval_metadata={second!r})."
    if isinstance(second, Mapping):
        return "Give options by keyword: train(data, epochs=3)."
    return "Give images and labels as a pair: train((images, labels))."
