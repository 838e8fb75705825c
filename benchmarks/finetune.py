"""What fine-tuning by the recipe gains over a logistic regression on the same network's features.

    python benchmarks/finetune.py --pictures FOLDER [--backbone NAME --checkpoint FILE]

FOLDER has a folder of images for each class. Five times, seven tenths of each class are drawn for
training; ``tfic train`` with its defaults and the regression see the same images. The regression
gets the whole image and the strength that cross-validation finds best on the training part. The
interval of the difference is Student's, over the five splits; their evaluation sets overlap, so
that it is somewhat too narrow.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

SEEDS = range(5)
TRAINING_SHARE = 0.7
STUDENT_T = 2.776  # 97.5th percentile for four degrees of freedom


def splits(folder, seed):
    draw = random.Random(seed)
    parts = {"train": [], "eval": []}
    for name in sorted(os.listdir(folder)):
        inside = os.path.join(folder, name)
        if not os.path.isdir(inside):
            continue
        paths = sorted(os.path.join(inside, file) for file in os.listdir(inside))
        draw.shuffle(paths)
        count = round(TRAINING_SHARE * len(paths))
        parts["train"] += [(path, name) for path in paths[:count]]
        parts["eval"] += [(path, name) for path in paths[count:]]
    return parts


def features(paths, backbone, checkpoint):
    import numpy as np
    import tensorflow as tf

    from tf_image_classification import backbones
    from tf_image_classification.checkpoints.warm_start import load_values, warm_start
    from tf_image_classification.config import IMAGENET

    size = backbones.find(backbone).image_size
    model = backbones.create(backbone, (size, size, 3))
    if checkpoint == IMAGENET:
        load_values(model, backbones.imagenet_values(backbone), checkpoint)
    else:
        warm_start(model, checkpoint)

    def image(path):
        pixels = tf.io.decode_image(tf.io.read_file(path), channels=3, expand_animations=False)
        return tf.image.resize(pixels, [size, size], antialias=True)

    forward = tf.function(lambda images: model(images, training=False))
    rows = [forward(image(path)[None]).numpy()[0] for path in paths]
    return dict(zip(paths, np.stack(rows), strict=True))


def regression(parts, of_path):
    import numpy as np
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV

    x, y = ([of_path[path] for path, _ in parts["train"]], [name for _, name in parts["train"]])
    search = GridSearchCV(LogisticRegression(max_iter=3000), {"C": [0.01, 0.1, 1, 10]}, cv=3)
    found = search.fit(x, y).predict([of_path[path] for path, _ in parts["eval"]])
    return float(np.mean([a == name for a, (_, name) in zip(found, parts["eval"], strict=True)]))


def fine_tuning(parts, options, folder, seed):
    for name, rows in parts.items():
        with open(os.path.join(folder, f"{name}.csv"), "w", encoding="utf-8") as stream:
            stream.write("URIs,labels\n")
            stream.writelines(f'"{path}",{label}\n' for path, label in rows)
    model_dir = os.path.join(folder, "model")
    command = [
        sys.executable, "-m", "tf_image_classification.cli.main", "train",
        "--backbone", options.backbone, "--checkpoint_path", options.checkpoint,
        "--train_metadata", f"{folder}/train.csv", "--eval_metadata", f"{folder}/eval.csv",
        "--model_dir", model_dir, "--seed", str(seed), "--noprogress",
    ]  # fmt: skip
    began, used = time.monotonic(), _cpu_secs()
    subprocess.run(command, check=True, capture_output=True)
    secs = (time.monotonic() - began, _cpu_secs() - used)
    with open(os.path.join(model_dir, "metrics.jsonl"), encoding="utf-8") as stream:
        return json.loads(stream.read().splitlines()[-1])["accuracy"], secs


def _cpu_secs():
    """Seconds that ended child processes have computed, over all cores."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", required=True)
    parser.add_argument("--checkpoint", default="imagenet")
    parser.add_argument("--backbone", default="efficientnet_lite0")
    options = parser.parse_args()
    if os.path.exists(options.checkpoint):
        options.checkpoint = os.path.abspath(options.checkpoint)
    pictures = os.path.abspath(options.pictures)
    first = splits(pictures, 0)
    of_path = features(
        [path for rows in first.values() for path, _ in rows], options.backbone, options.checkpoint
    )
    pairs = []
    for seed in SEEDS:
        parts = splits(pictures, seed)
        with tempfile.TemporaryDirectory() as folder:
            tuned, secs = fine_tuning(parts, options, folder, seed)
        pairs.append((tuned, regression(parts, of_path)))
        print(f"seed {seed}: fine-tuned {tuned:.3f} in {secs[0]:.0f} s ({secs[1]:.0f} s of "
              f"computing), regression {pairs[-1][1]:.3f}", flush=True)  # fmt: skip
    tuned, plain = (sum(values) / len(pairs) for values in zip(*pairs, strict=True))
    wins = sum(a > b for a, b in pairs)
    gains = [a - b for a, b in pairs]
    margin = STUDENT_T * statistics.stdev(gains) / len(gains) ** 0.5
    print(
        f"mean: fine-tuned {tuned:.3f}, regression {plain:.3f}, errors in the ratio "
        f"{(1 - tuned) / (1 - plain):.2f}; better with {wins} of {len(pairs)} seeds, by "
        f"{statistics.mean(gains):.3f} (95% interval {statistics.mean(gains) - margin:.3f} to "
        f"{statistics.mean(gains) + margin:.3f})"
    )


if __name__ == "__main__":
    main()
