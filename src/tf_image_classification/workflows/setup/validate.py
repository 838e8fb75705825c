"""Checks of a run before its first step: data, spec, settings and model folder.

opened = open_run(context)
opened.data.train.num_examples
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tf_image_classification.backbone_spec import BackboneSpec
from tf_image_classification.batches import Batch
from tf_image_classification.config import Settings, check_facts
from tf_image_classification.dataset.pipeline.protocols import BatchSource
from tf_image_classification.dataset.readers import source_kind
from tf_image_classification.errors import ConfigError
from tf_image_classification.estimator_specs import (
    EstimatorSpec,
    own_losses,
    source_digest,
    spec_name,
)
from tf_image_classification.evaluation.loop import MAX_CLASSES_OF_MATRIX
from tf_image_classification.labels import LabelSchema, example_values
from tf_image_classification.optim.distillation import can_be_distilled
from tf_image_classification.optim.long_tail_losses import (
    ASYMMETRIC,
    FOCAL,
    LOGIT_ADJUSTED,
    is_changed_by,
)
from tf_image_classification.run_manifest import RunManifest, make_manifest
from tf_image_classification.system import files
from tf_image_classification.workflows.setup import png16_range, run_data
from tf_image_classification.workflows.setup.context import RunContext
from tf_image_classification.workflows.setup.data_check import DataCheck, check_data
from tf_image_classification.workflows.setup.metric_check import check_metrics
from tf_image_classification.workflows.setup.run_data import Data
from tf_image_classification.workflows.setup.spec_check import require_spec
from tf_image_classification.workflows.setup.teachers import teacher_fingerprints


@dataclasses.dataclass(frozen=True)
class OpenedRun:
    """A run that was checked and has not started.

    Attributes:
        context: the run, with settings that had to be measured as numbers.
        data: its examples.
        train: its training examples.
        manifest: spec, data and settings that identify the run, for its model folder.
        notes: notes for the user, in sentences.
        counts: examples, classes and duplicates that the data check counted, for the model folder.
    """

    context: RunContext
    data: Data
    train: BatchSource
    manifest: RunManifest
    notes: tuple[str, ...]
    counts: Mapping[str, Any]


def open_run(context: RunContext) -> OpenedRun:
    """Read and check data, spec, settings and model folder; writes nothing but caches.

    Raises:
        TficError: anything that would stop the run, or keep an option from taking effect.
    """
    if context.workers.count > 1:
        _check_for_several_workers(context.settings)
    folder = context.folder
    files.check_writable(folder.path)
    before = folder.read_manifest()
    context = context.replace(settings=png16_range.as_begun(context.settings, before))
    data = run_data.read_data(context, before.schema if before else None)
    if data.train is None:
        raise ConfigError("There is nothing to train on. Give --train_metadata.")
    pipeline = data.train.as_pipeline
    if pipeline is not None:
        measured = png16_range.settled(context.settings, pipeline.preprocessor.png16_range)
        context = context.replace(settings=measured)
    spec, settings = context.spec, context.settings
    manifest = make_manifest(
        spec=spec_name(spec),
        spec_source=source_digest(spec),
        schema=data.schema,
        train_data=data.train.fingerprint,
        num_train_examples=data.train.num_examples,
        eval_data=data.evaluation.fingerprint if data.evaluation is not None else "",
        settings=settings,
        teachers=teacher_fingerprints(settings, data.schema),
    )
    changes = folder.check_same_run(manifest, allow_changes=settings.run.allow_changes)
    notes = tuple(f"allowed change: {change}" for change in changes)
    if before is not None and before.arithmetic < manifest.arithmetic:
        manifest = dataclasses.replace(manifest, arithmetic=before.arithmetic)
        notes += (_OLDER_ARITHMETIC,)
    checked = check_data(data) if settings.data.inspect else DataCheck({})
    require_spec(spec, settings)
    _check_effects(spec, settings, data.schema)
    _check_channels(settings, data.train.image_shape)
    if data.evaluation is not None:
        notes += check_metrics(context, data)
    notes += checked.notes
    return OpenedRun(context, data, data.train, manifest, notes, checked.counts)


_OLDER_ARITHMETIC = (
    "the run was begun by an older version, whose training steps rounded differently: its last "
    "digits will be those of neither version alone"
)


def _check_for_several_workers(settings: Settings) -> None:
    if settings.data.on_bad_image == "skip" and settings.training.steps_per_call > 1:
        raise ConfigError(
            "on_bad_image is skip and steps_per_call is more than 1, which several workers "
            "cannot do together: one that finds a bad image in the middle of a call would leave "
            "the others waiting. Use --steps_per_call 1."
        )


def _check_effects(spec: EstimatorSpec, settings: Settings, schema: LabelSchema) -> None:
    """Reject settings that were given and have no effect with this spec and these examples."""
    lacking: dict[str, str] = {}
    if not isinstance(spec, BackboneSpec):
        lacking["backbone_spec"] = "the spec has its own network and preprocessing"
    if spec.has_own_input:
        lacking["package_input"] = (
            "the spec's own input_fn reads and preprocesses the images, which are neither checked "
            "nor exported"
        )
    elif "tfrecord" not in _kinds_of_sources(settings):
        lacking["tfrecords"] = "no TFRecord files are read"
    batch, logits = _made_up_batch(schema)
    if own_losses(spec, schema, batch.labels, logits) is not None:
        lacking["package_losses"] = "the spec has its own losses"
    if all(label.has_classes for label in schema):
        lacking["regression_label"] = "class_dict has no regression label"
    if not any(label.can_be_smoothed for label in schema):
        lacking["smoothable_label"] = "class_dict has no label whose loss can be smoothed"
    loss = settings.training.loss
    if loss != "cross_entropy" and not any(is_changed_by(label, loss) for label in schema):
        lacking["class_loss"] = (
            f"{loss} is for {_LABELS_OF_LOSS[loss]} labels, and class_dict has none"
        )
    if not any(map(can_be_distilled, schema)):
        lacking["distilled_label"] = "class_dict has no single-label or multilabel label"
    if not schema.class_labels:
        lacking["class_label"] = "class_dict has no class label"
    elif all(label.depth > MAX_CLASSES_OF_MATRIX for label in schema.class_labels):
        lacking["drawable_matrix"] = (
            f"confusion matrices are drawn for up to {MAX_CLASSES_OF_MATRIX} classes"
        )
    check_facts(settings, lacking)


_LABELS_OF_LOSS = {
    FOCAL: "single-label and multilabel",
    ASYMMETRIC: "multilabel",
    LOGIT_ADJUSTED: "single-label",
}


def _check_channels(settings: Settings, image_shape: tuple[int, int, int]) -> None:
    """Reject options that need channels-last images if the preprocessing puts channels first."""
    if image_shape[2] in (1, 3, 4) or image_shape[0] not in (1, 3, 4):
        return
    for name in ("test_time_augmentation", "cutmix_alpha"):
        if settings.values()[name] not in ("none", 0.0):
            raise ConfigError(
                f"{name} needs images [height, width, channels], but get_preproc_fn gives "
                f"{list(image_shape)}. Remove it, or let the model put the channels first."
            )


def _kinds_of_sources(settings: Settings) -> set[str]:
    named = {
        "train_metadata": settings.data.train_metadata,
        "eval_metadata": settings.data.eval_metadata,
    }
    return {source_kind(names, option) for option, names in named.items() if names}


def _made_up_batch(schema: LabelSchema) -> tuple[Batch, dict[str, tf.Tensor]]:
    """Four examples without images, and logits for them."""
    rows = np.arange(4)
    labels, logits = {}, {}
    for label in schema:
        labels[label.name] = tf.constant(example_values(label, len(rows)))
        logits[label.name] = tf.zeros([len(rows), *label.logits_shape])
    known = {label.name: tf.ones(len(rows), tf.bool) for label in schema}
    return Batch(tf.zeros([len(rows), 1, 1, 1]), labels, known, tf.constant(rows)), logits
