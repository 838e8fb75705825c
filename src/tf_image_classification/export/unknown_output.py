"""The score of unknown pictures inside an exported graph.

score = unknown_score(detector, features)           float32 [B], as ``Detector.scores``
"""

from __future__ import annotations

import tensorflow as tf

from tf_image_classification.evaluation.unknown import TINY
from tf_image_classification.evaluation.unknown_detector import Detector


def unknown_score(detector: Detector, features: tf.Tensor) -> tf.Tensor:
    """The score [B] of features [B, D]; works traced and eagerly, with float32 operations only."""
    distance = detector.distance
    squared_length = tf.reduce_sum(features * features, axis=1, keepdims=True)
    x = features / tf.sqrt(tf.maximum(squared_length, TINY)) - distance.mean
    p = tf.matmul(x, distance.basis)
    rest = tf.maximum(tf.reduce_sum(x * x, axis=1) - tf.reduce_sum(p * p, axis=1), 0.0)
    q = tf.matmul(p, distance.scaling)
    squares = tf.reduce_sum(q * q, axis=1, keepdims=True) + (
        (distance.centres**2).sum(axis=1) - 2.0 * tf.matmul(q, distance.centres.T)
    )
    near = tf.maximum(tf.reduce_min(squares, axis=1), 0.0)
    return tf.sqrt(near + distance.rest_weight * rest) / detector.scale
