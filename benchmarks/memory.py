"""Peak resident memory of a training run at 100,000 examples against 10,000, in one run.

    python benchmarks/memory.py [csv | tfrecord | streaming]

Each size is a process of its own that indexes the set, checks it and trains 60 steps.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

SIZES = (10_000, 100_000)


def train(kind, count, folder):
    import keras
    import tensorflow as tf

    from tf_image_classification import EstimatorSpec, make_settings, train
    from tf_image_classification.dataset.tfrecord import write_shards

    class Spec(EstimatorSpec):
        class_dict = ({"name": "class_id", "depth": 10},)

        def get_preproc_fn(self, is_training):
            return lambda image, width, height: tf.image.resize(image, [height, width])

        def get_model_fn(self, checkpoint_path):
            def model_fn(image_shape, params):
                return keras.Sequential(
                    [keras.Input(image_shape), keras.layers.Flatten(), keras.layers.Dense(10)]
                )

            return model_fn

        def metric_ops(self, labels, predictions):
            return None

    png = tf.io.encode_png(tf.zeros([28, 28, 3], tf.uint8)).numpy()
    if kind == "csv":
        path = os.path.join(folder, "train.csv")
        image = os.path.join(folder, "image.png")
        with open(image, "wb") as stream:
            stream.write(png)
        with open(path, "w", encoding="utf-8") as stream:
            stream.write("URIs,labels\n")
            stream.writelines(f"{image},{i % 10}\n" for i in range(count))
        paths = [path]
    else:
        paths = write_shards(
            folder, "train", ((png, str(i), {"class_id": float(i % 10)}) for i in range(count))
        )
    settings = make_settings(
        {
            "train_metadata": paths,
            "input_mode": "streaming" if kind == "streaming" else "indexed",
            "train_steps": 60,
            "image_size": 28,
            "model_dir": os.path.join(folder, "model"),
            "cache_dir": os.path.join(folder, "cache"),
            "progress": False,
        }
    )
    train(Spec(), settings)
    print(f"PEAK {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.1f}")


def measure(kind, count):
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, kind, str(count), folder]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return float(output.rsplit("PEAK ", 1)[1])


def main():
    for kind in sys.argv[1:2] or ("csv", "tfrecord", "streaming"):
        small, large = (measure(kind, count) for count in SIZES)
        print(
            f"{kind}: {SIZES[0]:,} examples {small:.0f} MiB, "
            f"{SIZES[1]:,} examples {large:.0f} MiB, ratio {large / small:.3f}",
            flush=True,
        )


if __name__ == "__main__":
    if len(sys.argv) == 4:
        train(sys.argv[1], int(sys.argv[2]), sys.argv[3])
    else:
        main()
