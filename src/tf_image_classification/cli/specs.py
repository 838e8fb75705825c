"""The spec of a verb: ``--spec module:Class`` or ``--backbone NAME``."""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING

from tf_image_classification.config import Settings, check_needs, command_line, declare
from tf_image_classification.errors import ConfigError, UsageError
from tf_image_classification.workflows.setup.environment import prepare_tensorflow

if TYPE_CHECKING:
    from tf_image_classification.estimator_specs import EstimatorSpec
    from tf_image_classification.workflows.setup.context import RunContext, Sources


COMMON = (
    *("eval_metadata", "eval_split", "backbone", "checkpoint_path", "model_dir", "image_size"),
    *("batch_size", "epochs", "learning_rate", "augmentation", "class_weights", "labels"),
)
"""The settings that most people need, for the short help page of a verb that trains."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpecArguments:
    """The argument of every verb that trains or prepares a training."""

    spec: str = declare(
        "",
        "Spec as module:Class or file.py:Class; without it a built-in backbone is trained.",
    )


def check_given(reference: str, settings: Settings) -> None:
    """Check that there is something to train, before TensorFlow is imported.

    Raises:
        UsageError: both spec and backbone are given, or neither of them nor examples.
    """
    backbone = settings.backbone_spec.backbone
    refuse_both(reference, bool(backbone))
    if not (reference or backbone or settings.data.train_metadata):
        raise UsageError(
            "missing: DATA, the examples: a folder with one folder of images per class, "
            "a CSV or TFRecord files."
        )


def refuse_both(reference: str, has_backbone: bool) -> None:
    """Check that not both a spec and a backbone are given.

    Raises:
        UsageError: both are.
    """
    if reference and has_backbone:
        raise UsageError(
            "Give either a spec or a backbone: --spec module:Class, --spec file.py:Class or "
            "--backbone NAME."
        )


def load(reference: str, settings: Settings) -> EstimatorSpec:
    """The spec of a file or module; its code may read the settings from absl's ``FLAGS``.

    Raises:
        UsageError: an option is given that only the backbone spec has.
        SpecError: it cannot be loaded.
    """
    try:
        check_needs(settings, has_evaluation=bool(settings.data.train_metadata))
    except ConfigError as error:
        raise UsageError(str(error)) from error
    from tf_image_classification import train_estimator  # late: help is instant without it
    from tf_image_classification.estimator_specs import load_spec

    command_line.set_flags(settings, train_estimator.FLAGS)
    prepare_tensorflow(settings)
    return load_spec(reference)


def spec_and_settings(
    reference: str, settings: Settings
) -> tuple[EstimatorSpec, Settings, Sources]:
    """The named spec, or the backbone spec, with the settings of its run and the sources found.

    Raises:
        UsageError: as ``check_given``.
        SpecError: the spec cannot be loaded.
        DataError: the labels of the backbone spec cannot be inferred from the data.
    """
    check_given(reference, settings)
    prepare_tensorflow(settings)
    from tf_image_classification.workflows.setup import backbone_spec
    from tf_image_classification.workflows.setup.context import Sources

    sources = Sources()
    if reference:
        return load(reference, settings), settings, sources
    settings = backbone_spec.backbone_settings(settings)
    return backbone_spec.make_backbone_spec(settings, sources), settings, sources


def settled(spec: EstimatorSpec, settings: Settings, sources: Sources) -> RunContext:
    """The run of a trial, with the choices of the recipe."""
    from tf_image_classification.workflows.setup import recipe  # late: it needs TensorFlow
    from tf_image_classification.workflows.setup.context import make_context

    context, _ = recipe.settle(make_context(spec, settings, sources=sources))
    return context


@contextlib.contextmanager
def no_model_folder(settings: Settings) -> Iterator[Settings]:
    """The settings with an empty temporary model folder, so that no earlier run has an effect."""
    with tempfile.TemporaryDirectory() as empty:
        yield settings.replace(model_dir=empty)
