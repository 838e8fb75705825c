"""Images per second that are decoded and resized, with TensorFlow and without, in turn.

    python benchmarks/light_pixels.py [--without_scipy]

Photograph-like JPEGs of several sizes to 224 pixels, one after another on one core; the figures are
medians of rounds. Also checks that both give the same bits.
"""

import argparse
import io
import os
import statistics
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import tensorflow as tf
from PIL import Image

from tf_image_classification.dataset.image.decode import decoder
from tf_image_classification.dataset.preprocessing import Preprocessing
from tf_image_classification.serving.light.preprocess import LightPreprocessing

MAX_PIXELS = 100_000_000
SIZES = {"small": (160, 120), "usual": (500, 375), "large": (1600, 1200)}


def jpegs(size, count):
    """Smooth shapes with fine noise, at quality 90: as many bytes as a photograph."""
    width, height = size
    found = []
    for number in range(count):
        random = np.random.default_rng(number)
        coarse = random.integers(0, 256, (height // 20 + 2, width // 20 + 2, 3), np.uint8)
        image = np.asarray(Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC), float)
        image = np.clip(image + random.normal(0, 6, image.shape), 0, 255).astype(np.uint8)
        stream = io.BytesIO()
        Image.fromarray(image).save(stream, "JPEG", quality=90)
        found.append(stream.getvalue())
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--images", type=int, default=20, help="of each size")
    parser.add_argument("--image_size", type=int, default=224)
    parser.add_argument("--without_scipy", action="store_true", help="as if not installed")
    options = parser.parse_args()
    if options.without_scipy:
        sys.modules["scipy.sparse"] = None  # an import fails
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    side = options.image_size
    decode, there = decoder(MAX_PIXELS), Preprocessing(is_training=False, eval_crop=0.875)
    with_tensorflow = tf.function(
        lambda data: there(decode(data), side, side),
        input_signature=[tf.TensorSpec([], tf.string)],
    )
    light = LightPreprocessing(image_size=side, eval_crop=0.875, max_pixels=MAX_PIXELS)
    ways = {
        "TensorFlow": lambda data: with_tensorflow(tf.constant(data)).numpy(),
        "light": light.prepare,
    }
    for data in 5 * jpegs(SIZES["small"], 20):  # SciPy is imported after some images
        light.prepare(data)
    print("images/s per second of CPU    TensorFlow    light    light / TensorFlow")
    for name, size in SIZES.items():
        files = jpegs(size, options.images)
        for data in files:
            np.testing.assert_array_equal(*(way(data) for way in ways.values()))
        rates = {way: [] for way in ways}
        for _ in range(options.rounds):
            for way, prepare in ways.items():
                start = time.process_time()
                for data in files:
                    prepare(data)
                rates[way].append(len(files) / (time.process_time() - start))
        slow, fast = (statistics.median(rates[way]) for way in ways)
        label = f"{name} {size[0]} x {size[1]}, {len(files[0]) // 1000} kB"
        print(f"{label:<28}{slow:>12.0f}{fast:>9.0f}{fast / slow:>14.2f}")


if __name__ == "__main__":
    main()
