"""Images of one picture are found whatever was done to their exposure, and no others."""

import io

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps
from sklearn.datasets import load_sample_images

from changed_pictures import balanced, curve
from tf_image_classification.dataset.readers import Place, Row
from tf_image_classification.inspection.duplicates import connected, equal_pairs
from tf_image_classification.inspection.image_stats import measure_image
from tf_image_classification.inspection.same_pictures import same_pictures
from tf_image_classification.workflows.inspect import inspect
from workflows.test_inspect import clean, kinds, picture, saved  # noqa: F401

SIDE = 106


def photographs():
    """Parts of two photographs, none of which is in another; but for sky and the like."""
    parts = [
        photo[top : top + SIDE, left : left + SIDE]
        for photo in load_sample_images().images
        for top in range(0, photo.shape[0] - SIDE + 1, SIDE)
        for left in range(0, photo.shape[1] - SIDE + 1, SIDE)
    ]
    return [Image.fromarray(part) for part in parts if part.mean(axis=-1).std() > 18]


CHANGES = {
    "encoded again": lambda image: image,
    "smaller": lambda image: image.resize((80, 80)),
    "a stop brighter": curve(lambda v: (2 * v**2.2) ** (1 / 2.2)),
    "a stop darker": curve(lambda v: (v**2.2 / 2) ** (1 / 2.2)),
    "gamma 0.6": curve(lambda v: v**0.6),
    "gamma 1.7": curve(lambda v: v**1.7),
    "less contrast": lambda image: ImageEnhance.Contrast(image).enhance(0.6),
    "more contrast": lambda image: ImageEnhance.Contrast(image).enhance(1.5),
    "without colour": lambda image: image.convert("L").convert("RGB"),
    "more colour": lambda image: ImageEnhance.Color(image).enhance(1.8),
    "warmer": balanced(1.25, 0.75),
    "colder": balanced(0.8, 1.25),
    "automatic contrast": lambda image: ImageOps.autocontrast(image, cutoff=2),
}


def stats_of(images):
    stats = []
    for image in images:
        data = saved(image, quality=80)

        class Kept:
            kind, path = "bytes", ""

            def read(self, data=data):
                return data

        stats.append(measure_image(Row("", Kept(), {})))
    return stats


@pytest.fixture(scope="module")
def originals():
    return stats_of(photographs())


@pytest.mark.slow_after(3)
@pytest.mark.parametrize("change", CHANGES)
def test_pictures_that_were_changed_are_found_and_no_others(change, originals):
    changed = stats_of([CHANGES[change](image) for image in photographs()])
    count = len(originals)
    groups = same_pictures([*originals, *changed])
    expected = {(i, i + count) for i in range(count)}
    found = {tuple(group) for group in groups}
    assert found <= expected  # no group of two different pictures
    assert len(found) >= 0.9 * count


def test_digits_of_one_class_are_not_one_picture():
    random = np.random.default_rng(0)
    digits = []
    for _ in range(60):  # strokes at nearly the same place
        pixels = np.zeros([28, 28], np.uint8)
        at, width = random.integers(11, 16), random.integers(2, 5)
        pixels[random.integers(3, 6) : random.integers(22, 26), at : at + width] = 255
        lean = Image.fromarray(pixels).rotate(float(random.uniform(-25, 25)))
        digits.append(lean.convert("RGB"))
    different = {image.tobytes() for image in digits}
    assert sum(map(len, same_pictures(stats_of(digits)))) <= 2 * (60 - len(different)) + 6


def test_two_labels_on_images_with_equal_pixels_are_found_whatever_their_format(clean):  # noqa: F811
    flat = Image.new("RGB", (60, 40), (10, 200, 30))
    (clean / "train" / "ant" / "flat.png").write_bytes(saved(flat, "PNG"))
    (clean / "train" / "bee" / "flat.bmp").write_bytes(saved(flat, "BMP"))
    shown = picture(700, (12, 9))
    (clean / "train" / "ant" / "small.png").write_bytes(saved(shown, "PNG"))
    (clean / "train" / "bee" / "small.bmp").write_bytes(saved(shown, "BMP"))
    found = inspect(str(clean / "train"), num_processes=1)
    conflicts = kinds(found)["conflicts"]
    names = [sorted(found.images[i].key for i in group) for group in conflicts.members]
    assert names == [["ant/flat.png", "bee/flat.bmp"], ["ant/small.png", "bee/small.bmp"]]
    assert "2 pictures have different labels, 2 of them with equal pixels" in conflicts.text
    one_colour = kinds(found)["one_colour"]
    assert one_colour.severity == "warning" and len(one_colour.members) == 2


def test_copies_are_counted_by_picture_and_not_by_pair(clean):  # noqa: F811
    source = Image.open(clean / "train" / "ant" / "0.jpg")
    for i, factor in enumerate((0.7, 0.85, 1.2, 1.35)):
        brighter = ImageEnhance.Brightness(source).enhance(factor)
        (clean / "train" / "ant" / f"again{i}.jpg").write_bytes(saved(brighter))
    found = inspect(str(clean / "train"), num_processes=1)
    assert [len(group) for group in kinds(found)["duplicates"].members] == [5]
    text = kinds(found)["duplicates"].text
    assert "1 picture occurs more than once in one set, 0 of them" in text
    assert "4 redundant images" in text


def test_pairs_that_meet_are_one_group():
    assert connected(8, [(5, 2), (7, 5), (0, 1)]) == [[0, 1], [2, 5, 7]]
    assert equal_pairs(["a", None, "a", "b", None, "a"]) == [(0, 2), (0, 5)]


def test_an_image_of_nearly_one_colour_is_one_and_a_faint_picture_is_not(tmp_path):
    noise = np.random.default_rng(0).integers(0, 3, [40, 50, 3]) + 100
    faint = noise.copy()
    faint[10:20, 10:20] += 8
    hue = np.full([40, 50, 3], 90)
    hue[:, 25:] = [132, 75, 55]  # other colours of the same brightness
    for name, pixels in (("flat", noise), ("faint", faint), ("hue", hue)):
        data = io.BytesIO()
        Image.fromarray(pixels.astype(np.uint8)).save(data, "PNG")
        (tmp_path / name).write_bytes(data.getvalue())
        stats = measure_image(Row(name, Place("file", str(tmp_path / name)), {}))
        assert ("one colour" in stats.traits) == (name == "flat"), name
