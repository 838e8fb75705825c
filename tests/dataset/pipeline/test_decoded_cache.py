"""Small sets are decoded once, and nobody can tell by the batches."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from dataset import tiny_sources
from tf_image_classification.dataset.pipeline import decoded_cache
from tf_image_classification.dataset.pipeline.decoded_cache import DecodedCache
from tf_image_classification.dataset.preprocessing import Preprocessing
from tf_image_classification.dataset.table import SourceOptions, read_table
from tf_image_classification.labels import Label, LabelSchema

SCHEMA = LabelSchema((Label("kind", depth=2),)).with_vocabularies({"kind": ["cat", "dog"]})
COUNT = 13


def source(folder, sizes=(8,) * COUNT):
    for i, size in enumerate(sizes):
        path = folder / ("cat", "dog")[i % 2] / f"{i:02d}.png"
        path.parent.mkdir(exist_ok=True)
        pixels = np.random.default_rng(i).integers(0, 256, [size, 8, 3], np.uint8)
        path.write_bytes(tf.io.encode_png(pixels).numpy())
    options = SourceOptions(option="train_metadata", cache_dir=str(folder))
    return read_table([str(folder)], SCHEMA, options).encode(SCHEMA)


def preproc(image, width, height, seed):
    image = tf.image.resize(image, [height, width])
    return image + tf.random.stateless_uniform([], seed)


def pipeline(table, **changes):
    fields = {"preproc": preproc, "image_size": 6, "max_image_pixels": 10**6}
    return tiny_sources.pipeline(table, **(fields | changes))


@pytest.mark.slow
@pytest.mark.parametrize("fused", [False, True])
def test_same_batches(tmp_path, fused):
    how = {"preproc": Preprocessing(is_training=True, augmentation="translate")} if fused else {}
    without = pipeline(source(tmp_path), **how)
    table = without.table
    calls = []

    def fetch(numbers):
        calls.append(numbers)
        return table.fetch(numbers)

    counted = dataclasses.replace(table, fetch=fetch)
    kept = pipeline(counted, cache=DecodedCache(counted, max_pixels=10**6), **how)
    for make in (lambda p: p.training_batches(8).take(9), lambda p: p.evaluation_batches()):
        pairs = zip(make(kept), make(without), strict=True)
        for ours, plain in pairs:
            is_example = plain.ids.numpy() >= 0
            np.testing.assert_array_equal(ours.ids, plain.ids)
            np.testing.assert_array_equal(ours.labels["kind"], plain.labels["kind"])
            np.testing.assert_array_equal(ours.images[is_example], plain.images[is_example])
    assert len(calls) == 2  # the first image, and the traced reading of all


@pytest.mark.slow
@pytest.mark.exhaustive_after(3)
@pytest.mark.parametrize("augmentation", ["none", "flip", "colour"])
@pytest.mark.parametrize("keeps", [False, True])
def test_input_and_device_together_make_the_image_of_its_index(tmp_path, augmentation, keeps):
    table = source(tmp_path)
    how = Preprocessing(is_training=True, augmentation=augmentation)
    kept = DecodedCache(table, max_pixels=10**6) if keeps else None
    images = pipeline(table, preproc=how, batch_size=COUNT, cache=kept)
    batch = next(iter(images.training_batches(COUNT)))
    seen = batch.images
    if images.on_device:
        seen = images.on_device(batch.images, batch.random_parameters)
        assert (seen.numpy() != batch.images.numpy()).any()
    for row, number in enumerate(batch.ids.numpy()):
        encoded = table.fetch(tf.constant([number]))[0]
        image = tf.io.decode_png(encoded, channels=3)
        whole = images.preprocessor.preprocess(image, tf.constant(COUNT + row, tf.int64))
        np.testing.assert_allclose(seen[row].numpy().astype(int), whole.numpy(), atol=1)
    assert (augmentation == "none") == (images.on_device is None)


@pytest.mark.slow
def test_what_is_not_kept(tmp_path, monkeypatch):
    (tmp_path / "sizes").mkdir()
    other_sizes = source(tmp_path / "sizes", sizes=(8, 8, 9))
    assert DecodedCache(other_sizes, max_pixels=10**6).images() is None
    (tmp_path / "chunks").mkdir()
    monkeypatch.setattr(decoded_cache, "_CHUNK", 2)
    by_chunks = source(tmp_path / "chunks", sizes=(8, 8, 1, 1))
    assert DecodedCache(by_chunks, max_pixels=10**6).images() is None
    (tmp_path / "bad").mkdir()
    table = source(tmp_path / "bad")
    (tmp_path / "bad" / "dog" / "03.png").write_bytes(b"no image")
    assert DecodedCache(table, max_pixels=10**6).images() is None
    bad = pipeline(table, cache=DecodedCache(table, max_pixels=10**6))
    with pytest.raises(tf.errors.InvalidArgumentError):
        list(bad.evaluation_batches())
    named = [image.where for image in bad.find_bad_images(8, training=False)]
    assert named == [str(tmp_path / "bad" / "dog" / "03.png")]
    (tmp_path / "many").mkdir()
    many = source(tmp_path / "many")
    monkeypatch.setattr(decoded_cache, "MAX_BYTES", COUNT * 8 * 8 * 3 - 1)
    assert DecodedCache(many, max_pixels=10**6).images() is None
    monkeypatch.setattr(decoded_cache, "MAX_BYTES", COUNT * 8 * 8 * 3)
    assert DecodedCache(many, max_pixels=10**6).images() is not None
