"""What it costs to look at an image in full, against decoding it and doing nothing else.

    python benchmarks/inspect_images.py [--images FOLDER]

``tfic inspect`` spends its time in ``measure_image``, in one process per core. Both are
timed here in turns, in one process; the ratio is of their medians. Without ``--images`` the
photographs are made from the two that scikit-learn brings along.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time

from input import found_images, made_images

ROUNDS, NUM_IMAGES = 15, 100


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", default="", help="folder of JPEG files")
    given = parser.parse_args()
    import tensorflow as tf

    from tf_image_classification.dataset.image.decode import decoder
    from tf_image_classification.dataset.readers import Place, Row
    from tf_image_classification.inspection.image_stats import measure_image

    decode = decoder(100_000_000)
    with tempfile.TemporaryDirectory() as folder:
        rows, images = [], []
        photographs = found_images(given.images) if given.images else made_images()
        for number, data in zip(range(NUM_IMAGES), photographs, strict=False):
            path = os.path.join(folder, f"{number}.jpg")
            with open(path, "wb") as stream:
                stream.write(data)
            rows.append(Row(path, Place("file", path), {}, where=path))
            images.append(tf.constant(data))
        works = {
            "decoding": lambda: [decode(image).numpy() for image in images],
            "decoding and looking": lambda: [measure_image(row) for row in rows],
        }
        secs = {name: [] for name in works}
        for _ in range(ROUNDS):
            for name, work in works.items():
                began = time.perf_counter()
                work()
                secs[name].append(time.perf_counter() - began)
    medians = {name: statistics.median(found[1:]) for name, found in secs.items()}
    for name, median in medians.items():
        print(f"{name:<22} {NUM_IMAGES / median:6.0f} images/s")
    print(f"ratio of the times     {medians['decoding and looking'] / medians['decoding']:6.2f}")


if __name__ == "__main__":
    main()
