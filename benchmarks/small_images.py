"""What small images cost in each form they can be stored in, and what decoding them together saves.

    python benchmarks/small_images.py [--images FOLDER] [--sides 32 64]

Records with the same pictures as PNG, JPEG and raw pixels (``tfic convert --image_format``) become
batches of 256 on one core, with a function that only takes the decoded image; the ratio is to PNG.
Raw images of one size are decoded a chunk at a time, all others one by one. Without ``--images``
the pictures are made from the two that scikit-learn brings along.
"""

from __future__ import annotations

import argparse
import io
import os
import statistics
import tempfile
import time

from input import found_images, made_images

KINDS = ("PNG", "JPEG", "PPM")
BATCH, NUM_IMAGES, ROUNDS, SECS = 256, 4096, 5, 1.5


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", default="", help="folder of JPEG files")
    parser.add_argument("--sides", type=int, nargs="+", default=[32, 64])
    given = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])
    photographs = list(found_images(given.images) if given.images else made_images())
    for side in given.sides:
        with tempfile.TemporaryDirectory() as folder:
            readers = {kind: reader(folder, kind, side, photographs) for kind in KINDS}
            speeds = {kind: [] for kind in KINDS}
            for _ in range(ROUNDS):
                for kind, batches in readers.items():
                    speeds[kind].append(speed(batches))
        png = statistics.median(speeds["PNG"])
        for kind in KINDS:
            found = statistics.median(speeds[kind])
            print(
                f"{side} px  {kind:<5} {found:8.0f} images/s, ratio {found / png:.2f}", flush=True
            )


def reader(folder, kind, side, photographs):
    """Endless batches of the photographs at a size, from records that hold them in a form."""
    from PIL import Image

    from tf_image_classification.dataset.pipeline.example_readers import IndexedReader
    from tf_image_classification.dataset.pipeline.image_preprocessor import ImagePreprocessor
    from tf_image_classification.dataset.pipeline.pipeline import Pipeline
    from tf_image_classification.dataset.table import SourceOptions, read_table
    from tf_image_classification.dataset.tfrecord import write_shards
    from tf_image_classification.labels import Label, LabelSchema

    stored = []
    for photograph in photographs:
        data = io.BytesIO()
        Image.open(io.BytesIO(photograph)).convert("RGB").resize((side, side)).save(data, kind)
        stored.append(data.getvalue())
    examples = (
        (stored[number % len(stored)], f"{number}", {"label": number % 2})
        for number in range(NUM_IMAGES)
    )
    write_shards(os.path.join(folder, kind), "train", examples, num_shards=2)
    schema = LabelSchema((Label("label", depth=2),))
    options = SourceOptions(option="train_metadata", cache_dir=folder)
    source = read_table([os.path.join(folder, kind, "*.gz")], schema, options).encode(schema)

    def preproc(image, width, height):
        image.set_shape([height, width, 3])
        return image

    preprocessor = ImagePreprocessor(preproc=preproc, image_size=side, max_image_pixels=10**8)
    reader = IndexedReader(source)
    preprocessor = ImagePreprocessor(preproc=preproc, image_size=side, max_image_pixels=10**8)
    pipeline = Pipeline(reader=reader, preprocessor=preprocessor, batch_size=BATCH)
    return iter(pipeline.training_batches(0))


def speed(batches):
    """Images a second, once the batches are used up that were made while others were measured."""
    for _ in range(16):
        next(batches)
    began, count = time.monotonic(), 0
    while time.monotonic() - began < SECS:
        count += len(next(batches).images)
    return count / (time.monotonic() - began)


if __name__ == "__main__":
    main()
