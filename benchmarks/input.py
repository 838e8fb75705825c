"""How fast photographs become batches: ours, other libraries, and the decoder alone.

    pip install -r benchmarks/requirements-input.txt
    python benchmarks/input.py [--images FOLDER] [--cores 1 2] [--only ours] [--rounds 3]

The same work for all: a random part of 8 to 100 % of each photograph (``--crop_area``), resized to
224 pixels, in shuffled batches of 64. Each reader runs in a process of its own that is held to so
many cores. The ratio is to libjpeg-turbo decoding the same files as a whole, measured just before
and just after each reader, since a machine that others use as well changes its speed within
minutes; of several rounds it is the median. Readers whose library is not installed are named.

Without ``--images`` the photographs are made from the two that scikit-learn brings along.
"""

from __future__ import annotations

import argparse
import dataclasses
import glob
import io
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time

SIDE, BATCH = 224, 64
NUM_IMAGES, MEASURED_SECS, LIMIT_SECS = 512, 6.0, 3.0
MIN_AREA = 0.08  # fraction of a photograph, as usual in training from scratch; the maximum is 1


def limit(folder, cores):
    """libjpeg-turbo decodes whole files, a process a core; nothing else."""
    import multiprocessing

    data = [open(path, "rb").read() for path in paths_of(folder)]  # noqa: SIM115
    with multiprocessing.get_context("fork").Pool(cores) as pool:
        while True:
            yield sum(pool.map(_decode_only, [data[i::cores] for i in range(cores)]))


def _decode_only(data):
    import simplejpeg

    for one in data:
        simplejpeg.decode_jpeg(one)
    return len(data)


def ours(folder, cores, source=None):
    from tf_image_classification.backbone_spec import BackboneSpec
    from tf_image_classification.config import BackboneSettings, make_settings
    from tf_image_classification.labels import Label
    from tf_image_classification.workflows.setup import run_data
    from tf_image_classification.workflows.setup.context import make_context

    spec = BackboneSpec(
        [Label("label", depth=2)], BackboneSettings(backbone="mobilenet_v1", crop_area=MIN_AREA)
    )
    with tempfile.TemporaryDirectory() as cache:
        settings = make_settings(
            {"train_metadata": [source or os.path.join(folder, "jpeg")], "image_size": SIDE,
             "batch_size": BATCH, "backbone": "mobilenet_v1", "cache_dir": cache,
             "crop_area": MIN_AREA}
        )  # fmt: skip
        train = run_data.read_data(make_context(spec, settings)).train
        reader = dataclasses.replace(train.reader, cache=None)  # images of one size may be kept
        train = dataclasses.replace(train, reader=reader)
        for batch in train.training_batches(0):
            yield len(batch.images)


def ours_from_records(folder, cores):
    yield from ours(folder, cores, os.path.join(folder, "records", "*.gz"))


def ours_from_short_sides(folder, cores):
    yield from ours(folder, cores, os.path.join(folder, "short_sides", "*.gz"))


def ours_from_pixels(folder, cores):
    yield from ours(folder, cores, os.path.join(folder, "pixels", "*.gz"))


def pipeline_of_2018(folder, cores):
    """GZIP records, whole images decoded, shuffled in a buffer of five batches, then resized."""
    import tensorflow as tf

    def parse(record):
        features = tf.io.parse_single_example(
            record, {"image_bytes": tf.io.FixedLenFeature([], tf.string)}
        )
        return tf.image.decode_jpeg(features["image_bytes"], channels=3)

    files = sorted(glob.glob(os.path.join(folder, "records", "*.gz")))
    images = tf.data.TFRecordDataset(files, compression_type="GZIP").repeat()
    images = images.map(parse, num_parallel_calls=cores).shuffle(5 * BATCH)
    yield from batches(images.map(random_part, num_parallel_calls=cores))


def random_part(image):
    import tensorflow as tf

    begin, size, _ = tf.image.sample_distorted_bounding_box(
        tf.shape(image), tf.zeros([1, 0, 4]), area_range=(MIN_AREA, 1.0),
        use_image_if_no_bounding_boxes=True,
    )  # fmt: skip
    return tf.image.resize(tf.slice(image, begin, size), [SIDE, SIDE])


def batches(images):
    import tensorflow as tf

    for batch in images.batch(BATCH, drop_remainder=True).prefetch(tf.data.AUTOTUNE):
        yield len(batch)


def tf_data(folder, cores):
    import tensorflow as tf

    paths = tf.data.Dataset.from_tensor_slices(paths_of(folder)).shuffle(NUM_IMAGES).repeat()
    yield from batches(
        paths.map(
            lambda path: random_part(tf.io.decode_jpeg(tf.io.read_file(path), channels=3)),
            num_parallel_calls=tf.data.AUTOTUNE,
        )
    )


def keras_directory(folder, cores):
    """Resizes whole images: it takes no part of them."""
    import keras

    images = keras.utils.image_dataset_from_directory(
        os.path.join(folder, "jpeg"), image_size=(SIDE, SIDE), batch_size=BATCH, verbose=False
    )
    for batch, _ in images.repeat():
        yield len(batch)


def torch_pillow(folder, cores):
    import numpy as np
    import torch
    from PIL import Image

    def read(path):
        image = Image.open(path).convert("RGB")
        y, x, h, w = random_box(image.height, image.width)
        part = image.resize((SIDE, SIDE), Image.Resampling.BILINEAR, box=(x, y, x + w, y + h))
        return torch.from_numpy(np.array(part))

    yield from torch_loader(folder, cores, read)


def torch_opencv(folder, cores):
    import cv2
    import torch

    cv2.setNumThreads(1)
    yield from torch_loader(folder, cores, lambda p: torch.from_numpy(opencv_part(cv2.imread(p))))


def opencv_part(image):
    import cv2

    y, x, h, w = random_box(*image.shape[:2])
    return cv2.resize(image[y : y + h, x : x + w], (SIDE, SIDE))


def random_box(height, width):
    """Top, left, height and width of a random part."""
    area, ratio = random.uniform(MIN_AREA, 1.0) * height * width, random.uniform(0.75, 1.33)
    h, w = min(height, int((area / ratio) ** 0.5)), min(width, int((area * ratio) ** 0.5))
    return random.randint(0, height - h), random.randint(0, width - w), h, w


def torch_loader(folder, cores, read):
    import torch

    class Images(torch.utils.data.Dataset):
        def __init__(self):
            self.paths = paths_of(folder)

        def __len__(self):
            return len(self.paths)

        def __getitem__(self, number):
            return read(self.paths[number])

    loader = torch.utils.data.DataLoader(
        Images(), BATCH, shuffle=True, num_workers=cores, persistent_workers=True, drop_last=True
    )
    while True:
        for batch in loader:
            yield len(batch)


def grain_opencv(folder, cores):
    import cv2
    import grain

    cv2.setNumThreads(1)
    images = grain.MapDataset.source(paths_of(folder)).shuffle(seed=0).repeat()
    images = images.map(lambda path: opencv_part(cv2.imread(path))).batch(BATCH)
    options = grain.ReadOptions(num_threads=cores, prefetch_buffer_size=4 * cores)
    for batch in images.to_iter_dataset(options):
        yield len(batch)


def webdataset_opencv(folder, cores):
    import cv2
    import numpy as np
    import torch
    import webdataset

    cv2.setNumThreads(1)

    def decode(example):
        image = cv2.imdecode(np.frombuffer(example["jpg"], np.uint8), cv2.IMREAD_COLOR)
        return (opencv_part(image),)

    shards = sorted(glob.glob(os.path.join(folder, "tar", "*.tar")))
    images = webdataset.WebDataset(shards, resampled=True)
    loader = torch.utils.data.DataLoader(
        images.shuffle(5 * BATCH).map(decode).batched(BATCH), batch_size=None, num_workers=cores
    )
    for (batch,) in loader:
        yield len(batch)


def dali_cpu(folder, cores):
    from nvidia.dali import fn, pipeline_def

    @pipeline_def(batch_size=BATCH, num_threads=cores, device_id=None)
    def images():
        data, _ = fn.readers.file(files=paths_of(folder), random_shuffle=True)
        part = fn.decoders.image_random_crop(data, random_area=[MIN_AREA, 1.0])
        return fn.resize(part, resize_x=SIDE, resize_y=SIDE)

    pipe = images()
    pipe.build()
    while True:
        yield len(pipe.run()[0])


READERS = {
    "libjpeg-turbo, whole files": limit,
    "ours, files": ours,
    "ours, records": ours_from_records,
    "ours, records, short side 256": ours_from_short_sides,
    "ours, raw records, short side 256": ours_from_pixels,
    "pipeline of 2018, records": pipeline_of_2018,
    "tf.data, files": tf_data,
    "Keras image_dataset_from_directory": keras_directory,
    "PyTorch DataLoader, Pillow": torch_pillow,
    "PyTorch DataLoader, OpenCV": torch_opencv,
    "grain, OpenCV": grain_opencv,
    "webdataset, OpenCV": webdataset_opencv,
    "DALI on the CPU": dali_cpu,
}
LIMIT = next(iter(READERS))


def paths_of(folder):
    """The photographs' files, sorted."""
    return sorted(glob.glob(os.path.join(folder, "jpeg", "*", "*.jpg")))


def measured(reader, folder, cores):
    """Images a second of one reader, once it has got going."""
    iterator = READERS[reader](folder, cores)
    for _ in range(1 if reader == LIMIT else 4):
        next(iterator)
    secs = LIMIT_SECS if reader == LIMIT else MEASURED_SECS
    began, count = time.monotonic(), 0
    while time.monotonic() - began < secs:
        count += next(iterator)
    return count / (time.monotonic() - began)


def write_photographs(folder, given):
    """The photographs as files in two folders, as records, as small records and in tar files."""
    import tarfile

    from PIL import Image

    from tf_image_classification.dataset.tfrecord import write_shards

    images = list(found_images(given) if given else made_images())
    small, pixels = [], []
    for number, data in enumerate(images):
        path = os.path.join(folder, "jpeg", str(number % 2), f"{number:05d}.jpg")
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as stream:
            stream.write(data)
        image = Image.open(io.BytesIO(data)).convert("RGB")
        scale = 256 / min(image.size)
        image = image.resize([round(side * scale) for side in image.size], Image.Resampling.LANCZOS)
        small.append(jpeg(image))
        raw = io.BytesIO()
        image.save(raw, "PPM")
        pixels.append(raw.getvalue())
    for name, stored in (("records", images), ("short_sides", small), ("pixels", pixels)):
        examples = ((data, f"{i}.jpg", {"label": i % 2}) for i, data in enumerate(stored))
        write_shards(os.path.join(folder, name), "train", examples, num_shards=4)
    os.makedirs(os.path.join(folder, "tar"))
    for shard in range(4):
        with tarfile.open(os.path.join(folder, "tar", f"{shard}.tar"), "w") as tar:
            for number in range(shard, len(images), 4):
                entry = tarfile.TarInfo(f"{number:05d}.jpg")
                entry.size = len(images[number])
                tar.addfile(entry, io.BytesIO(images[number]))


def found_images(folder):
    """The JPEG files below a folder, again from the start until there are enough."""
    found = glob.glob(os.path.join(folder, "**", "*"), recursive=True)
    paths = sorted(path for path in found if path.lower().endswith((".jpg", ".jpeg")))
    for number in range(NUM_IMAGES):
        with open(paths[number % len(paths)], "rb") as stream:
            yield stream.read()


def made_images():
    """Parts of two photographs, 500 x 375 pixels."""
    from PIL import Image
    from sklearn.datasets import load_sample_images

    chance = random.Random(0)
    photographs = [Image.fromarray(image) for image in load_sample_images().images]
    for number in range(NUM_IMAGES):
        image = photographs[number % len(photographs)]
        x, y = chance.randint(0, image.width - 500), chance.randint(0, image.height - 375)
        yield jpeg(image.crop((x, y, x + 500, y + 375)))


def jpeg(image):
    data = io.BytesIO()
    image.save(data, "JPEG", quality=90)
    return data.getvalue()


def main():
    global MIN_AREA  # of this process, and handed on to those that measure
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", default="", help="folder of JPEG files")
    parser.add_argument("--cores", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=1, help="how often all are measured")
    parser.add_argument(
        "--only", default="", help="only readers whose name holds this, and the limit"
    )
    parser.add_argument(
        "--crop_area", type=float, default=MIN_AREA, help="minimum area fraction of the random crop"
    )
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    MIN_AREA = arguments.crop_area
    if arguments.measure:
        reader, folder, cores = arguments.measure
        print(json.dumps(measured(reader, folder, int(cores))))
        return
    with tempfile.TemporaryDirectory() as folder:
        write_photographs(folder, arguments.images)
        readers = [name for name in READERS if name != LIMIT and arguments.only in name]
        print(f"{'reader':<36} " + " ".join(f"{f'{n} core(s)':>22}" for n in arguments.cores))
        limits = {cores: [in_process(LIMIT, folder, cores)] for cores in arguments.cores}
        if [0.0] in limits.values():
            raise SystemExit("pip install simplejpeg: all is measured against it.")
        for reader in readers:
            found = {cores: [] for cores in arguments.cores}
            for cores in arguments.cores * arguments.rounds:
                speed = in_process(reader, folder, cores)
                limits[cores].append(in_process(LIMIT, folder, cores))
                around = statistics.mean(limits[cores][-2:])
                found[cores].append((speed / around, speed))
            middles = [statistics.median_low(found[cores]) for cores in arguments.cores]
            show(reader, [
                f"{speed:8.0f}/s, ratio {ratio:.2f}" if speed else "not installed"
                for ratio, speed in middles
            ])  # fmt: skip
        show(LIMIT, [f"{statistics.median(limits[n]):8.0f}/s, ratio 1.00" for n in arguments.cores])


def show(name, cells):
    print(f"{name:<36} " + " ".join(f"{cell:>22}" for cell in cells), flush=True)


def in_process(reader, folder, cores):
    """Images a second of a reader in a process of its own; 0.0 where its library is absent."""
    available = sorted(os.sched_getaffinity(0))[:cores]
    done = subprocess.run(
        [sys.executable, os.path.abspath(__file__), "--crop_area", str(MIN_AREA),
         "--measure", reader, folder, str(cores)],
        capture_output=True, text=True, check=False,
        preexec_fn=lambda: os.sched_setaffinity(0, available),
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
    )  # fmt: skip
    if "ModuleNotFoundError" in done.stderr:
        return 0.0
    if done.returncode:
        raise SystemExit(f"{reader} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    main()
