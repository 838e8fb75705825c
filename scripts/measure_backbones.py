"""Fill the measured columns of the backbones' catalog: parameters, and operations for one image.

    python scripts/measure_backbones.py [NAME ...]

Without names every network is measured; that takes minutes and some GB.
"""

import csv
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import tensorflow as tf

from tf_image_classification import backbones

CATALOG = os.path.join(os.path.dirname(backbones.__file__), "catalog.tsv")


def measured(name):
    """Parameters in millions, and floating-point operations in thousand millions."""
    keras.utils.clear_session()
    size = backbones.find(name).image_size
    model = backbones.create(name, (size, size, 3))
    images = tf.TensorSpec([1, size, size, 3])
    graph = tf.function(lambda x: model(x, training=False)).get_concrete_function(images).graph
    options = tf.compat.v1.profiler.ProfileOptionBuilder.float_operation()
    options["output"] = "none"
    operations = tf.compat.v1.profiler.profile(graph, options=options).total_float_ops
    return f"{model.count_params() / 1e6:.2f}", f"{operations / 1e9:.2f}"


def main(names):
    """Measure, and write the catalog anew after each network."""
    with open(CATALOG, encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    for row in rows:
        if row["name"] in names or not names:
            row["params"], row["gflops"] = measured(row["name"])
            print(row["name"], row["params"], row["gflops"], flush=True)
            with open(CATALOG, "w", encoding="utf-8", newline="") as stream:
                writer = csv.DictWriter(stream, rows[0], delimiter="\t", lineterminator="\n")
                writer.writeheader()
                writer.writerows(rows)


if __name__ == "__main__":
    main(sys.argv[1:])
