"""A contact sheet of training images, unaugmented and as augmented in each epoch."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tf_image_classification.dataset.pipeline.sampler import Sampler
from tf_image_classification.dataset.table import Table
from tf_image_classification.errors import ConfigError
from tf_image_classification.hooks.summaries import to_displayable
from tf_image_classification.labels import SEPARATOR, LabelSchema
from tf_image_classification.system import files
from tf_image_classification.workflows.setup import run_data
from tf_image_classification.workflows.setup.context import RunContext

_INCHES = 1.6  # a picture's side


def preview(
    context: RunContext,
    path: str,
    *,
    num_examples: int = 8,
    num_epochs: int = 7,
) -> list[str]:
    """Write a contact sheet as a PNG: the first examples of the run, one per row.

    The first image of a row is preprocessed as for evaluation; the others are exactly the images of
    the first epochs of a training with these settings.

    Args:
        context: the training.
        path: where to write.
        num_examples: rows.
        num_epochs: augmented images in a row.

    Returns:
        The name of each example.

    Raises:
        ConfigError: there are no training examples that can be read by number.
        DataError: an example cannot be read.
    """
    data = run_data.read_data(context)
    training = data.train.as_pipeline if data.train is not None else None
    if training is None or training.table is None:
        raise ConfigError("preview needs --train_metadata, and input_mode indexed.")
    table = training.table
    plain = run_data.without_augmentation(data, context.spec)
    sampler = training.reader.sampler
    assert sampler is not None
    num_examples = min(num_examples, table.num_examples)
    rows, titles, names = [], [], []
    for position in range(num_examples):
        number = int(sampler.example_numbers(tf.constant([position], tf.int64))[0])
        encoded = table.fetch(tf.constant([number], tf.int64))[0]
        image = training.preprocessor.decode(encoded)
        pictures = [plain.preprocessor.preprocess(image, tf.constant(position, tf.int64))]
        for epoch in range(num_epochs):
            place = _position_of(sampler, number, position, epoch, table.num_examples)
            pictures.append(training.preprocessor.preprocess(image, tf.constant(place, tf.int64)))
        rows.append([to_displayable(np.asarray(picture)[None])[0] for picture in pictures])
        titles.append(_labels(data.schema, table, number))
        names.append(table.locate(number))
    files.write_bytes(path, _sheet(rows, titles))
    return names


def _position_of(
    sampler: Sampler, number: int, position: int, epoch: int, num_examples: int
) -> int:
    """Where an example comes in an epoch; of one that does not, where it might."""
    positions = tf.range(num_examples, dtype=tf.int64) + epoch * num_examples
    places = np.flatnonzero(sampler.example_numbers(positions).numpy() == number)
    return (int(places[0]) if len(places) else position) + epoch * num_examples


def _labels(schema: LabelSchema, table: Table, number: int) -> str:
    texts = []
    for label in schema:
        column = table.columns[label.name]
        if not column.mask[number]:
            texts.append(f"no {label.name}")
        elif label.value_shape:
            has = column.values[number] > 0
            names = [n for n, is_there in zip(label.named_classes(), has, strict=True) if is_there]
            texts.append(SEPARATOR.join(names) or "none")
        elif label.is_class:
            texts.append(label.named_classes()[int(column.values[number])])
        else:
            texts.append(f"{label.name} {column.values[number]:.3g}")
    return ", ".join(texts)


def _sheet(rows: list[list[npt.NDArray[Any]]], titles: list[str]) -> bytes:
    # Late: matplotlib takes a second to load.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_INCHES * len(rows[0]), (_INCHES + 0.2) * len(rows)))
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(rows), len(rows[0]), squeeze=False)
    for row, pictures, title in zip(axes, rows, titles, strict=True):
        for column, (axis, picture) in enumerate(zip(row, pictures, strict=True)):
            axis.imshow(picture.squeeze(), cmap="gray" if picture.shape[-1] == 1 else None)
            axis.set_axis_off()
            axis.set_title(title if column == 0 else f"epoch {column}", fontsize=7)
    figure.tight_layout(pad=0.3)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    return buffer.getvalue()
