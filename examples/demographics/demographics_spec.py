"""The spec: age as 101 classes in order, perceived gender as two, from one face."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf
from face_table import GENDERS, OLDEST

from tf_image_classification import EstimatorSpec, Label, backbones, metrics
from tf_image_classification.dataset import augment

GROUP_STARTS = (0, 3, 10, 20, 30, 40, 50, 60, 70)
GROUP_NAMES = ("0-2", "3-9", "10-19", "20-29", "30-39", "40-49", "50-59", "60-69", "70+")
SMALL = "small"


def age_group(ages):
    """The number of the age group of each age in years, int64."""
    return np.searchsorted(GROUP_STARTS, np.floor(np.asarray(ages) + 0.5), side="right") - 1


class DemographicsSpec(EstimatorSpec):
    """One network with an output for each task.

    Attributes:
        tasks: "age", "gender" or both.
        age_coding: how the age is learned: "distribution", "expectation" or "thresholds".
        network: "small" for the one below, or the name of a backbone.
    """

    def __init__(self, tasks=("age", "gender"), age_coding="distribution", network=SMALL):
        labels = {
            "age": Label("age", depth=OLDEST + 1, kind="ordinal", coding=age_coding,
                         class_names=tuple(map(str, range(OLDEST + 1)))),
            "gender": Label("gender", depth=2, class_names=GENDERS),
        }  # fmt: skip
        self.class_dict = [labels[task] for task in tasks]
        self.age_coding, self.network = age_coding, network

    def get_preproc_fn(self, is_training):
        """The middle of the image; in training mirrored, moved, and in another light."""

        def preproc(image, width, height, seed):
            image = augment.central_crop(image, height, width)
            if is_training:
                image = augment.random_flip(image, seed)
                image = augment.random_translate(image, seed, most=0.06)
                image = augment.random_colour(image, seed, most=0.3)
            return image

        return preproc

    def get_model_fn(self, checkpoint_path):
        """The network's features, and a linear output for each task."""

        def model_fn(image_shape, params):
            outputs = {label.name: label.logits_shape[0] for label in self.class_dict}
            if self.network != SMALL:
                outputs = outputs if len(outputs) > 1 else next(iter(outputs.values()))
                return backbones.create(self.network, image_shape, outputs=outputs, dropout=0.2)
            inputs = keras.Input(image_shape)
            features = small_network(inputs)
            return keras.Model(
                inputs,
                {
                    name: keras.layers.Dense(size, name=f"logits_{name}")(features)
                    for name, size in outputs.items()
                },
            )

        return model_fn

    def metric_ops(self, labels, predictions):
        """Errors in years, the share within five (CS@5), age groups exact and one off, accuracy."""
        found = {}
        if "age" in labels:
            true, years = labels["age"], self.years(predictions)
            groups = age_group(true), age_group(years)
            found |= {
                "age/mean_absolute_error": metrics.mean_absolute_error(true, years),
                "age/within_5": metrics.within(true, years, 5),
                "age/group_accuracy": metrics.accuracy(*groups),
                "age/group_within_1": metrics.within(*groups, 1),
            }
        if "gender" in labels:
            found["gender/accuracy"] = metrics.accuracy(labels["gender"], predictions["gender"])
        return found

    def years(self, predictions):
        """The predicted age: the median for thresholds, else the expected value."""
        return predictions["age" if self.age_coding == "thresholds" else "age_expected"]


def small_network(inputs):
    """Features [B, 128] of an image with pixels 0-255; 0.4 million parameters."""
    x = keras.layers.Rescaling(1 / 127.5, offset=-1)(inputs)
    for i, filters in enumerate((24, 48, 96, 128)):
        for part in "ab":
            strides = 2 if part == "a" else 1
            x = keras.layers.Conv2D(filters, 3, strides, padding="same", use_bias=False,
                                    name=f"conv{i}{part}")(x)  # fmt: skip
            x = keras.layers.BatchNormalization(momentum=0.95, name=f"norm{i}{part}")(x)
            x = keras.layers.ReLU()(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.layers.Dropout(0.2)(x)


def encoded(paths):
    """The bytes of image files, string [n]."""
    return tf.constant([tf.io.read_file(path).numpy() for path in paths])
