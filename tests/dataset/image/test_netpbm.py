"""Raw images: read in parts or together, with the pixels that decoding each gives."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from dataset import tiny_sources
from tf_image_classification.dataset.image import netpbm
from tf_image_classification.dataset.pipeline.stream import read_stream
from tf_image_classification.dataset.preprocessing import Preprocessing
from tf_image_classification.dataset.table import SourceOptions, read_table
from tf_image_classification.dataset.tfrecord import write_shards
from tf_image_classification.labels import Label, LabelSchema

SCHEMA = LabelSchema((Label("kind", depth=2),)).with_vocabularies({"kind": ["cat", "dog"]})
COUNT, BATCH = 11, 4


def picture(number, height=9, width=12, mode="RGB"):
    shape = (height, width, 3) if mode == "RGB" else (height, width)
    return Image.fromarray(np.random.default_rng(number).integers(0, 256, shape, np.uint8))


def raw(*args, **options):
    data = io.BytesIO()
    picture(*args, **options).save(data, "PPM")
    return data.getvalue()


def pipeline(folder, kind, images, preproc, **changes):
    """Over one folder of files in a format."""
    for number, image in enumerate(images):
        path = folder / kind / ("cat", "dog")[number % 2] / f"{number:02d}.{kind}"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)
    options = SourceOptions(option="train_metadata", cache_dir=str(folder))
    source = read_table([str(folder / kind)], SCHEMA, options).encode(SCHEMA)
    fields = {"batch_size": BATCH, "image_size": 8, "max_image_pixels": 10**6} | changes
    return tiny_sources.pipeline(source, preproc=preproc, **fields)


def own_preproc(image, width, height, seed):
    image = tf.image.resize(image, [height, width])
    return image + tf.random.stateless_uniform([], seed)


SETS = {
    "of one size": [picture(i) for i in range(COUNT)],
    "grey": [picture(i, mode="L") for i in range(COUNT)],
    "of two sizes": [picture(i, height=9 + i % 2) for i in range(COUNT)],
    "grey and coloured": [picture(i, mode=("L", "RGB")[i % 2]) for i in range(COUNT)],
    "too large to be read together": [picture(i, 140, 120) for i in range(COUNT)],
}


@pytest.mark.slow
@pytest.mark.exhaustive_after(2)
@pytest.mark.parametrize(
    ("name", "preproc"),
    [
        ("of one size", Preprocessing(is_training=True)),
        *((name, own_preproc) for name in SETS),
        ("too large to be read together", Preprocessing(is_training=True)),
    ],
)
def test_a_set_of_raw_images_gives_the_batches_of_one_of_png(tmp_path, name, preproc):
    both = [pipeline(tmp_path, kind, SETS[name], preproc) for kind in ("ppm", "png")]
    for make in (lambda p: p.training_batches(8).take(4), lambda p: p.evaluation_batches()):
        for ours, plain in zip(*map(make, both), strict=True):
            np.testing.assert_array_equal(ours.ids, plain.ids)
            is_example = plain.ids.numpy() >= 0
            np.testing.assert_array_equal(ours.images[is_example], plain.images[is_example])


@pytest.mark.slow
def test_raw_images_of_a_stream_are_decoded_together(tmp_path, monkeypatch):
    together = []
    pixels = netpbm.pixels
    monkeypatch.setattr(netpbm, "pixels", lambda *args: together.append(1) or pixels(*args))
    both = []
    for kind in ("PPM", "PNG"):
        encoded = [io.BytesIO() for _ in range(COUNT)]
        for number, data in enumerate(encoded):
            picture(number).save(data, kind)
        rows = ((d.getvalue(), f"{i}", {"kind": float(i % 2)}) for i, d in enumerate(encoded))
        write_shards(str(tmp_path / kind), "train", rows, num_shards=2)
        options = SourceOptions(option="train_metadata", cache_dir=str(tmp_path))
        files = [str(tmp_path / kind / "train-*")]
        stream = read_stream(files, SCHEMA, options, block=5, vocabularies={})
        limits = {"batch_size": BATCH, "image_size": 8, "max_image_pixels": 10**6}
        batches = tiny_sources.pipeline(stream, preproc=own_preproc, **limits).training_batches(4)
        both.append(list(batches.take(4)))
        assert together, "the PPM files, which come first, were decoded one by one"
    for ours, plain in zip(*both, strict=True):
        np.testing.assert_array_equal(ours.ids, plain.ids)
        np.testing.assert_array_equal(ours.images, plain.images)
    assert len(together) == 1, "PNG files are no raw images"


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{}, {"max_image_pixels": 100}])
def test_a_bad_image_among_raw_ones_is_found(tmp_path, changes):
    images = [picture(i) for i in range(COUNT)]
    batches = pipeline(tmp_path, "ppm", images, own_preproc, **changes)
    if not changes:
        path = tmp_path / "ppm" / "dog" / "05.ppm"
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(tf.errors.InvalidArgumentError):
        list(batches.training_batches(0).take(3))
    bad = [b for p in range(0, 12, BATCH) for b in batches.find_bad_images(p, training=True)]
    words = "more than max_image_pixels 100" if changes else "Netpbm data is cut short"
    assert bad and all(words in image.reason for image in bad)
    assert changes or {image.number for image in bad} == {8}


def test_only_whole_images_of_one_small_size_are_alike():
    def alike(*files, most=10**6):
        data = tf.constant(files)
        return bool(netpbm.are_alike(data, netpbm.headers(data), most))

    assert alike(raw(0), raw(1) + b"more")
    assert not alike(raw(0), raw(1, height=10))
    assert not alike(raw(0), raw(1, mode="L"))
    assert not alike(raw(0), raw(1)[:-1])
    assert not alike(raw(0), raw(1), most=107)
    assert not alike(raw(0, 200, 200), raw(1, 200, 200))
    assert not alike(b"P6 0 9 255 ", b"P6 0 9 255 ")
    assert not alike(b"P6 99999999 99999999 255 ", b"P6 99999999 99999999 255 ")
    assert not alike(b"", b"")


def test_headers_say_what_the_files_hold():
    files = [raw(0), raw(0, mode="L"), b"P6#\n7 5 255\n", b"P3 1 1 255\n", b"\x89PNG", b""]
    expected = [[3, 9, 12, 12], [1, 9, 12, 12], [3, 5, 7, 12], *[[0, 0, 0, 0]] * 3]
    found = netpbm.headers(tf.constant(files)).numpy()
    expected[0][3] = expected[1][3] = len(raw(0)) - 9 * 12 * 3
    np.testing.assert_array_equal(found, expected)
