"""Examples in memory become files that the readers know, or an error that shows the problem."""

import os
from pathlib import Path

import numpy as np
import pandas
import pyarrow
import pytest
import tensorflow as tf
from PIL import Image

from tf_image_classification.dataset import in_memory
from tf_image_classification.dataset.image.decode import decode_image
from tf_image_classification.dataset.in_memory import stored_source
from tf_image_classification.dataset.readers import find_examples
from tf_image_classification.errors import BadImageError, DataError

COUNT = 6
IMAGES = np.random.RandomState(0).randint(0, 256, [COUNT, 4, 5, 3], np.uint8)
LABELS = np.arange(COUNT) % 3


def stored(data, folder):
    """The listing of examples in memory, once they are stored."""
    paths = stored_source(data, option="data", folder=str(folder / "stored"))
    return find_examples(paths, option="data")


def pixels_of(listing):
    return np.stack(
        [decode_image(listing.places[i].read(), max_pixels=100).numpy() for i in range(COUNT)]
    )


@pytest.mark.parametrize(
    "images",
    [
        IMAGES,
        IMAGES.astype(np.int64),
        IMAGES.astype(np.float32),
        IMAGES / 255.0,
        (IMAGES / 255.0).astype(np.float32),
        list(IMAGES),
        [Image.fromarray(image) for image in IMAGES],
        [tf.io.encode_png(image).numpy() for image in IMAGES],
        tf.constant(IMAGES),
        IMAGES.astype(np.uint16) * 257,
    ],
    ids=[
        "uint8",
        "int64",
        "float255",
        "float64",
        "float32",
        "list",
        "pil",
        "bytes",
        "tensor",
        "uint16",
    ],
)
def test_images_of_every_form_keep_their_pixels(images, tmp_path):
    listing = stored((images, LABELS), tmp_path)
    np.testing.assert_array_equal(pixels_of(listing), IMAGES)
    assert list(listing.columns["label"]) == LABELS.tolist()


def test_grey_and_binary_images(tmp_path):
    grey = np.repeat(IMAGES[..., :1], 3, axis=-1)
    for images in (IMAGES[..., 0], IMAGES[..., :1]):
        np.testing.assert_array_equal(pixels_of(stored((images, LABELS), tmp_path)), grey)
    binary = pixels_of(stored((IMAGES[..., 0] > 100, LABELS), tmp_path))
    np.testing.assert_array_equal(binary, np.where(grey > 100, 255, 0))


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (LABELS.astype(np.float32), {"label": [0, 1, 2, 0, 1, 2]}),
        (LABELS[:, None], {"label": [0, 1, 2, 0, 1, 2]}),
        (np.eye(3)[LABELS], {"label": [0, 1, 2, 0, 1, 2]}),
        (["cat", "dog", "emu"] * 2, {"label": ["cat", "dog", "emu"] * 2}),
        ([["cat", "dog"], ["emu"], ["cat"]] * 2, {"label": ["cat|dog", "emu", "cat"] * 2}),
        (np.array([[1, 1], [0, 1], [0, 0]] * 2), {"label": [(1, 1), (0, 1), (0, 0)] * 2}),
        (pandas.Series([0.5, None, 1.5] * 2), {"label": [0.5, "", 1.5] * 2}),
        ({"kind": LABELS, "size": LABELS / 2}, {"kind": [0, 1, 2] * 2, "size": [0, 0.5, 1] * 2}),
    ],
    ids=["floats", "column", "one_hot", "names", "several", "multi_hot", "missing", "two_labels"],
)
def test_labels_of_every_form(labels, expected, tmp_path):
    assert {k: list(v) for k, v in stored((IMAGES, labels), tmp_path).columns.items()} == expected


def test_a_tf_data_dataset_with_or_without_batches(tmp_path):
    plain = tf.data.Dataset.from_tensor_slices((IMAGES, LABELS))
    named = tf.data.Dataset.from_tensor_slices({"image": IMAGES, "label": LABELS})
    real = plain.map(lambda image, label: (tf.cast(image, tf.float32), label)).batch(4)
    for data in (plain, plain.batch(4), named, named.batch(4), real):
        listing = stored(data, tmp_path)
        np.testing.assert_array_equal(pixels_of(listing), IMAGES)
        assert list(listing.columns["label"]) == LABELS.tolist()
    real.class_names = ["cat", "dog", "emu"]
    assert list(stored(real, tmp_path).columns["label"]) == ["cat", "dog", "emu"] * 2
    with pytest.raises(DataError, match=r"never ends. Remove its repeat\(\)"):
        stored(plain.repeat(), tmp_path)
    with pytest.raises(DataError, match="expected elements"):
        stored(tf.data.Dataset.from_tensor_slices(IMAGES), tmp_path)


def test_a_dataset_that_shuffles_is_stored_once(tmp_path):
    plain = tf.data.Dataset.from_tensor_slices((IMAGES, LABELS))
    names = tf.data.Dataset.from_tensor_slices(
        ([str(tmp_path / f"{i}.png") for i in LABELS], LABELS)
    )

    def paths(data):
        return stored_source(data, option="data", folder=str(tmp_path / "stored"))

    for data in (plain, names):
        [path] = paths(data)
        content = Path(path).read_bytes()
        os.utime(path, (0, 0))
        assert {paths(data.shuffle(COUNT, seed=seed)) for seed in range(5)} == {(path,)}
        assert Path(path).read_bytes() == content and os.stat(path).st_mtime > 0
        assert paths(data.take(COUNT - 1)) != (path,)
    twisted = (IMAGES, LABELS[::-1].copy())
    assert paths(tf.data.Dataset.from_tensor_slices(twisted)) != paths(plain)
    assert paths((IMAGES, LABELS)) != paths((IMAGES[::-1], LABELS[::-1]))  # arrays have an order


def test_files_that_are_unused_for_a_week_are_removed_from_a_large_folder(tmp_path, monkeypatch):
    def paths(number):
        data = (IMAGES[number : number + 1], LABELS[:1])
        return stored_source(data, option="data", folder=str(tmp_path))

    [first], [second], [third] = map(paths, range(3))
    now = os.stat(first).st_mtime
    for path, days in ((first, 9), (second, 8), (third, 6)):
        os.utime(path, (now, now - days * 86_400))
    paths(3)
    assert os.path.exists(first)  # far from 10 GiB
    monkeypatch.setattr(in_memory, "_MAX_BYTES", 3 * os.path.getsize(first))
    paths(3)
    assert [os.path.exists(path) for path in (first, second, third)] == [False, True, True]
    monkeypatch.setattr(in_memory, "_MAX_BYTES", 0)
    paths(3)
    assert [os.path.exists(path) for path in (second, third)] == [False, True]


def test_tables_and_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = [f"a {i}.png" for i in range(COUNT)]
    for name, image in zip(names, IMAGES, strict=True):
        Image.fromarray(image).save(name)
    classes = ["cat, small", "dog", "emu"] * 2
    table = pandas.DataFrame({"image_path": names, "label": pandas.Categorical(classes)})
    forms = [
        table,
        table.set_index(pandas.Index(range(5, 11))),
        pyarrow.Table.from_pandas(table),
        {"file": [tmp_path / name for name in names], "label": classes},
        (names, classes),
        (np.array(names), np.array(classes)),
        list(zip(names, classes, strict=True)),
        tf.data.Dataset.from_tensor_slices((names, classes)),
        pandas.DataFrame({"image": list(IMAGES), "label": classes}),
        pandas.DataFrame({"image": [Path(n).read_bytes() for n in names], "label": classes}),
    ]
    for data in forms:
        listing = stored(data, tmp_path)
        np.testing.assert_array_equal(pixels_of(listing), IMAGES)
        assert {k: list(v) for k, v in listing.columns.items()} == {"label": classes}
    monkeypatch.chdir(os.path.dirname(tmp_path))  # paths have become absolute
    assert len(stored_source(table, option="data", folder=str(tmp_path))) == 1


def test_the_same_data_give_the_same_file_and_others_another(tmp_path):
    folder = str(tmp_path)
    first, again = (stored_source((IMAGES, LABELS), option="a", folder=folder) for _ in range(2))
    [other] = stored_source((IMAGES, LABELS[::-1]), option="a", folder=folder)
    assert first == again and other not in first
    assert sorted(os.listdir(folder)) == sorted(map(os.path.basename, [*first, other]))


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        ((IMAGES, LABELS[:4]), DataError, "image 6, label 4. Expected one length"),
        ((IMAGES[:0], LABELS[:0]), DataError, "holds no examples"),
        (pandas.DataFrame({"file": [], "label": []}), DataError, "holds no examples"),
        (pandas.DataFrame({"file": ["a"]}), DataError, "only the column 'file'"),
        (IMAGES, DataError, r"is ndarray \[6, 4, 5, 3\], expected .* It has no labels"),
        ((IMAGES, None), DataError, r"a pair of ndarray \[6, 4, 5, 3\] and NoneType"),
        (None, DataError, "is NoneType, expected a path"),
        (7, DataError, "is int, expected a path"),
        ((IMAGES / 127.5 - 1, LABELS), BadImageError, "image 0: .* Undo the normalization"),
        ((IMAGES.astype(int) * 2, LABELS), BadImageError, "int64 from .* expected from 0 to 255"),
        ((IMAGES // 16 * 1.0, LABELS), BadImageError, "value of all images is 15 of 255"),
        ((np.full([6, 4, 5], np.nan), LABELS), BadImageError, "from nan to nan"),
        ((IMAGES.reshape(6, -1), LABELS), BadImageError, r"\[60\], .* height and width"),
        ((np.moveaxis(IMAGES, -1, 1), LABELS), BadImageError, "channels to the end"),
        ((IMAGES.astype(complex), LABELS), BadImageError, "expected numbers"),
    ],
)
def test_what_cannot_be_used_is_refused_and_leaves_no_file(data, error, message, tmp_path):
    with pytest.raises(error, match=message):
        stored(data, tmp_path)
    assert not any(files for _, _, files in os.walk(tmp_path))


def test_values_that_contradict_the_first_images_are_refused(tmp_path):
    images = [np.full([4, 4], 0.5)] * 300 + [np.full([4, 4], 9.0)]
    with pytest.raises(BadImageError, match="image 300: .* from 0 to 1, as the first images are"):
        stored((images, [0, 1] * 150 + [0]), tmp_path)
    labels = [[0, 1]] * 300 + [[1, 1]]
    with pytest.raises(DataError, match=r"image 300: label is \[1, 1\], expected a single 1"):
        stored((np.zeros([301, 4, 4], np.uint8) + 99, labels), tmp_path)


def test_dark_images_of_bytes_are_kept_with_a_warning(tmp_path, caplog):
    stored((IMAGES // 16, LABELS), tmp_path)
    assert "15 of 255, so that they are almost black" in caplog.text
