"""What oneDNN gains on this processor, in inference and in a step of fine-tuning.

    python benchmarks/onednn.py [--backbone efficientnet_lite0] [--rounds 3]

Each round measures both in processes of their own, one with oneDNN and one without; printed are the
medians of the processor's seconds for a batch of 32 images, and the ratio without to with.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time

BATCH_SIZE = 32
REPEATS = 5


def measured(backbone):
    """Seconds of computing for a batch: of inference, and of gradients with frozen statistics."""
    import keras
    import tensorflow as tf

    from tf_image_classification import backbones
    from tf_image_classification.fused_batch_norm import fused_batch_norm

    size = backbones.find(backbone).image_size
    model = backbones.create(backbone, (size, size, 3), outputs=10)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = False
    images = tf.random.stateless_uniform([BATCH_SIZE, size, size, 3], (0, 0), 0, 255)

    @tf.function
    def inference():
        with fused_batch_norm(model, training=False):
            return model(images, training=False)

    @tf.function
    def gradients():
        variables = [variable.value for variable in model.trainable_variables]
        with tf.GradientTape() as tape, fused_batch_norm(model, training=True):
            loss = tf.reduce_mean(model(images, training=True) ** 2)
        return tape.gradient(loss, variables)

    secs = {}
    for name, function in (("inference", inference), ("gradients", gradients)):
        function()  # traces
        began = time.process_time()
        for _ in range(REPEATS):
            tf.nest.map_structure(lambda tensor: tensor.numpy(), function())
        secs[name] = (time.process_time() - began) / REPEATS
    return secs


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", default="efficientnet_lite0")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measured(options.backbone)))
        return
    found = {"0": [], "1": []}
    command = [sys.executable, __file__, "--child", "--backbone", options.backbone]
    for _ in range(options.rounds):
        for is_on, rows in found.items():
            environment = os.environ | {"TF_ENABLE_ONEDNN_OPTS": is_on, "TF_CPP_MIN_LOG_LEVEL": "3"}
            text = subprocess.run(command, env=environment, check=True, capture_output=True).stdout
            rows.append(json.loads(text.splitlines()[-1]))
    for name in ("inference", "gradients"):
        without, with_it = (statistics.median(row[name] for row in found[on]) for on in "01")
        print(
            f"{options.backbone}, {name}: {without:.2f} s without oneDNN, {with_it:.2f} s with it, "
            f"ratio {without / with_it:.2f}"
        )


if __name__ == "__main__":
    main()
