"""Finds metrics that the evaluation set cannot give, before the first step.

An area under a curve needs examples of two classes, whatever the model predicts. So the metrics are
computed from the true labels and synthetic logits: one that is NaN for all of these always will be.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tf_image_classification.batches import Batch, evenly_spaced
from tf_image_classification.config import Settings
from tf_image_classification.dataset.table import Table
from tf_image_classification.errors import ConfigError
from tf_image_classification.estimator_specs import own_metrics
from tf_image_classification.evaluation.loop import Slices, evaluate_batches
from tf_image_classification.hooks.checkpoints import scalar_metric
from tf_image_classification.labels import Label, LabelSchema, example_values
from tf_image_classification.labels.schema import MULTILABEL, THRESHOLDS
from tf_image_classification.metrics.definitions import find_metric
from tf_image_classification.workflows.setup.context import RunContext
from tf_image_classification.workflows.setup.losses import make_losses
from tf_image_classification.workflows.setup.run_data import Data
from tf_image_classification.workflows.setup.slices import watched_slices

Array = npt.NDArray[Any]
_AT_ONCE = 1024
_TRIED_FIRST = 2_000
_MOST_NAMED = 5


def check_metrics(context: RunContext, data: Data) -> tuple[str, ...]:
    """Notes on metrics that the evaluation set cannot give, in sentences.

    Raises:
        ConfigError: ``best_metric`` is unknown, not a scalar, or always NaN on these examples.
    """
    settings = context.settings
    best = settings.evaluation.best_metric or "loss"
    table = data.evaluation.table if data.evaluation is not None else None
    if table is None:
        found = _worked_out(context, data.schema, _made_up_rows(data.schema), "random")
        scalar_metric(found, best)
        return ()
    rows = _evaluated_rows(settings, table)
    slices = watched_slices(settings, data)
    some = rows[evenly_spaced(len(rows), _TRIED_FIRST)]
    unknown: set[str] | None = None
    for chosen, trial in ((some, "random"), (rows, "random"), (rows, "truth"), (rows, "nothing")):
        columns = {
            name: (column.values[chosen], column.mask[chosen])
            for name, column in table.columns.items()
        }
        found = _worked_out(context, data.schema, (chosen, columns), trial, slices)
        scalar_metric(found, best)
        missing = {name for name, value in found.scalars().items() if np.isnan(value)} - {"loss"}
        unknown = missing if unknown is None else unknown & missing
        if not unknown:
            break
    which = _described(settings, data.schema, table, rows)
    notes = [f"{_reason(name, which)} It will be NaN." for name in sorted(unknown or ())]
    if best in (unknown or ()):
        raise ConfigError(
            f"best_metric: {_reason(best, which)} Choose another metric, or give --eval_metadata "
            "that it can be worked out on."
        )
    if len(rows) < table.num_examples and (absent := _absent(data.schema, table, rows)):
        notes.append(
            f"eval_freq {settings.evaluation.eval_freq} evaluates the first {len(rows)} of "
            f"{table.num_examples} examples, where {absent}."
        )
    return tuple(notes)


def _reason(name: str, which: str) -> str:
    known = find_metric(name)
    needs = f": it needs {known.needs}" if known is not None and known.needs else ""
    return f"{name} cannot be worked out on {which}, whatever the model predicts{needs}."


def _evaluated_rows(settings: Settings, table: Table) -> Array:
    """Indices of the examples that an evaluation covers."""
    most = settings.evaluation.eval_freq * settings.data.batch_size
    return np.arange(min(table.num_examples, most) if most else table.num_examples)


def _described(settings: Settings, schema: LabelSchema, table: Table, rows: Array) -> str:
    """A description of the evaluated examples and their classes."""
    first = "first " if len(rows) < table.num_examples else ""
    text = f"the {first}{len(rows)} evaluation examples"
    for label in schema.class_labels:
        present = _classes(label, table, rows)
        if len(present) <= _MOST_NAMED:
            named = ", ".join(label.named_classes()[k] for k in present)
            text += f" (label {label.name}: {named or 'not known of any'} only)"
    return text


def _absent(schema: LabelSchema, table: Table, rows: Array) -> str:
    """Classes of the set that none of these rows has."""
    texts = []
    for label in schema.class_labels:
        everything = _classes(label, table, np.arange(table.num_examples))
        absent = np.setdiff1d(everything, _classes(label, table, rows))
        if len(absent):
            names = ", ".join(label.named_classes()[k] for k in absent[:_MOST_NAMED])
            more = f" and {len(absent) - _MOST_NAMED} more" if len(absent) > _MOST_NAMED else ""
            texts.append(f"label {label.name} has no example of {names}{more}")
    return "; ".join(texts)


def _classes(label: Label, table: Table, rows: Array) -> Array:
    column = table.columns[label.name]
    return np.unique(column.values[rows][column.mask[rows]])


Rows = tuple[Array, dict[str, tuple[Array, Array]]]
"""Indices of examples; by label their values and mask."""


def _made_up_rows(schema: LabelSchema) -> Rows:
    numbers = np.arange(4)
    known = np.ones(4, bool)
    return numbers, {label.name: (example_values(label, 4), known) for label in schema}


def _worked_out(
    context: RunContext,
    schema: LabelSchema,
    rows: Rows,
    trial: str,
    slices: Slices | None = None,
) -> Any:
    """The evaluation of a model that predicts at random, the truth, or nothing."""
    random = np.random.default_rng(0)
    numbers, columns = rows

    def batches() -> Iterator[tuple[Batch, dict[str, tf.Tensor]]]:
        for start in range(0, len(numbers), _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            ids = tf.constant(numbers[part], tf.int64)
            labels, known, logits = {}, {}, {}
            for label in schema:
                values, present = (column[part] for column in columns[label.name])
                labels[label.name] = tf.constant(np.where(_like(present, values), values, 0))
                known[label.name] = tf.constant(present)
                made_up = np.zeros([len(values), *label.logits_shape])
                if trial == "random":
                    made_up = random.normal(size=made_up.shape)
                elif trial == "truth":
                    made_up = _true_logits(label, labels[label.name].numpy())
                logits[label.name] = tf.constant(made_up, tf.float32)
            yield Batch(tf.zeros([len(ids), 1, 1, 1]), labels, known, ids), logits

    return evaluate_batches(
        batches(),
        schema,
        metric_fn=functools.partial(own_metrics, context.spec, schema),
        loss_fn=make_losses(context, schema),
        slices=slices,
        also=(context.settings.evaluation.best_metric,),
    )


def _like(present: Array, values: Array) -> Array:
    return present.reshape([-1, *[1] * (values.ndim - 1)])


def _true_logits(label: Label, values: Array) -> Array:
    """Logits of a model that is sure of the truth."""
    if not label.has_classes:
        return values
    if label.kind == MULTILABEL:
        return 16.0 * values - 8.0
    if label.coding == THRESHOLDS:
        return np.where(np.arange(label.depth - 1) < values[:, None], 8.0, -8.0)
    return np.where(np.arange(label.depth) == values[:, None], 8.0, -8.0)
