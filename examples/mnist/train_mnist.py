"""Handwritten digits: MNIST, or the small set of digits that scikit-learn brings along.

    python examples/mnist/train_mnist.py                        the bundled digits, no download
    python examples/mnist/train_mnist.py --mnist_dir FOLDER     MNIST from its four idx.gz files

A part of the training set is held out and chooses the checkpoint; the test set is looked at once,
at the end.
"""

from __future__ import annotations

import argparse
import os

import keras
import mnist_records
import tensorflow as tf

from tf_image_classification import EstimatorSpec, metrics, train_estimator
from tf_image_classification.system.process_exit import ends_the_process

HERE = os.path.dirname(os.path.abspath(__file__))
ROTATION, SHIFT, ZOOM = 0.175, 2.0, 0.1  # radians, pixels, share: each drawn from -x to x


class MnistSpec(EstimatorSpec):
    """Ten digits from grey images."""

    class_dict = ({"name": "class_id", "depth": 10, "one-hot": True},)

    def get_preproc_fn(self, is_training):
        """Resize to one grey channel; turn, shift and zoom a little when training."""

        def preproc(image, width, height, seed):
            draws = (
                tf.random.stateless_uniform([5], seed, -1.0, 1.0) if is_training else tf.zeros(5)
            )
            return warped(image[:, :, :1], width, height, draws)

        return preproc

    def get_model_fn(self, checkpoint_path):
        """A small convolutional net; 0.19 million parameters."""

        def model_fn(image_shape, params):
            inputs = keras.Input(image_shape)
            x = keras.layers.Rescaling(1 / 255)(inputs)
            for filters, size, pools in (
                (32, 5, True),
                (64, 3, True),
                (96, 3, False),
                (128, 3, False),
            ):
                x = keras.layers.Conv2D(filters, size, use_bias=False)(x)
                if pools:
                    x = keras.layers.MaxPooling2D()(x)
                x = keras.layers.BatchNormalization(momentum=0.95)(x)
                x = keras.layers.ReLU()(x)
            x = keras.layers.Flatten()(x)
            return keras.Model(inputs, keras.layers.Dense(10, name="logits")(x))

        return model_fn

    def metric_ops(self, labels, predictions):
        """Accuracy and the mean over classes of their accuracies."""
        truth, found = labels["class_id"], predictions["class_id"]
        return {
            "accuracy": metrics.accuracy(truth, found),
            "mean_per_class_accuracy": metrics.mean_per_class_accuracy(truth, found, 10),
        }


def warped(image, width, height, draws):
    """The image resized and turned, zoomed and shifted by draws in -1..1 [5], in one resampling."""
    size = tf.cast(tf.shape(image)[:2], tf.float32)
    scale_y, scale_x = size[0] / height, size[1] / width
    cos, sin = tf.cos(draws[0] * ROTATION), tf.sin(draws[0] * ROTATION)
    zoom_x, zoom_y = 1 + draws[1] * ZOOM, 1 + draws[2] * ZOOM
    xx, xy, yx, yy = cos * zoom_x, -sin * zoom_y, sin * zoom_x, cos * zoom_y
    middle_x, middle_y = (width - 1) / 2, (height - 1) / 2
    shift_x = draws[3] * SHIFT - xx * middle_x - xy * middle_y
    shift_y = draws[4] * SHIFT - yx * middle_x - yy * middle_y
    from_x = (size[1] - 1) / 2 + scale_x * shift_x
    from_y = (size[0] - 1) / 2 + scale_y * shift_y
    transform = [xx * scale_x, xy * scale_x, from_x, yx * scale_y, yy * scale_y, from_y, 0.0, 0.0]
    result = tf.raw_ops.ImageProjectiveTransformV3(
        images=tf.cast(image, tf.float32)[None],
        transforms=tf.stack(transform)[None],
        output_shape=[height, width],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
    )
    return tf.ensure_shape(result[0], [height, width, 1])


def main():
    """Write the records once, train or resume, and look at the test set."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--mnist_dir", default="")  # its four idx.gz files; empty: the digits
    parser.add_argument("--records_dir", default="./mnist_records")  # the examples as TFRecords
    own, arguments = parser.parse_known_args()
    records = mnist_records.patterns(own.mnist_dir, own.records_dir)
    data = ["--train_metadata", *records["train"], "--eval_metadata", *records["holdout"]]
    if not any(argument.startswith("--config") for argument in arguments):
        config = "mnist.yml" if own.mnist_dir else "digits.yml"
        arguments = ["--config", os.path.join(HERE, config), *arguments]
    settings = train_estimator.settings_of_command_line([*data, *arguments])
    workers = train_estimator.join(settings)  # before TensorFlow is used, which writing does
    if workers.is_writer:
        mnist_records.write(own.mnist_dir, own.records_dir)
    workers.wait_for_all()
    train_estimator.train(MnistSpec(), settings)
    if not settings.run.plan:
        if workers.is_writer:
            print("\ntest set, which chose nothing:")
        train_estimator.evaluate(MnistSpec(), settings.replace(eval_metadata=records["test"]))


if __name__ == "__main__":
    with ends_the_process():
        main()
