"""The picture of a confusion matrix: it opens, has a readable size, and takes any class name."""

import concurrent.futures
import io

import numpy as np
import pytest
from PIL import Image

from tf_image_classification.errors import SpecError
from tf_image_classification.metrics import confusion
from tf_image_classification.metrics.confusion import draw_confusion_matrix


def draw(matrix, names=None, title="pet"):
    names = names or [f"class {i}" for i in range(len(matrix))]
    png = draw_confusion_matrix(np.asarray(matrix), names, title=title)
    with Image.open(io.BytesIO(png)) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB")).astype(int)


@pytest.mark.slow_after(3)
@pytest.mark.parametrize(
    ("num_classes", "least", "most"),
    [(2, 300, 700), (10, 600, 1000), (20, 1000, 1500), (60, 1000, 1500), (200, 2200, 2800)],
)
def test_the_size_grows_with_the_classes_within_bounds(num_classes, least, most):
    height, width, _ = draw(np.eye(num_classes, dtype=int) * 7).shape
    assert least <= height <= most
    assert least <= width <= most


@pytest.mark.slow
def test_more_classes_than_can_be_named_still_fit():
    height, width, _ = draw(np.eye(300, dtype=int)).shape
    assert 2000 < height < 3000
    assert 2000 < width < 3000


def blue_centre(pixels):
    """Centre (x, y) of the dark blue pixels left of the colour bar."""
    red, green, blue = pixels[:, : pixels.shape[1] * 3 // 4].transpose(2, 0, 1)
    rows, columns = np.nonzero((blue > 90) & (red < 40) & (green < 80))
    return columns.mean() / pixels.shape[1], rows.mean() / pixels.shape[0]


def test_true_classes_go_down_and_predicted_ones_to_the_right():
    below = np.zeros((3, 3), int)
    below[2, 0] = 5
    x, y = blue_centre(draw(below))
    assert x < 0.45 < 0.55 < y
    x, y = blue_centre(draw(below.T))
    assert y < 0.45 < x


def test_colours_are_shares_of_the_true_class_not_counts():
    few, many = [[1, 0], [0, 1]], [[1, 0], [0, 1000]]
    assert blue_centre(draw(few)) == pytest.approx(blue_centre(draw(many)), abs=0.03)


def test_counts_are_written_up_to_20_classes():
    assert (draw([[1, 0], [0, 1]]) != draw([[2, 0], [0, 2]])).any()
    a = np.eye(21, dtype=int)
    a[1, 1] = 8
    b = a.copy()
    b[1, 1] = 9
    # The number of examples in the title differs only where the title is.
    changed = np.nonzero((draw(a) != draw(b)).any(axis=(1, 2)))[0]
    assert changed.max() < 60


NAMES = [
    "Straße",
    "猫",
    "dog \U0001f436",
    "مرحبا",
    "$100",
    "$\\unknown{$",
    "a_very_long_name_that_goes_on_and_on_adult",
    "a_very_long_name_that_goes_on_and_on_child",
    "two\nlines\tand a tab",
    "broken \udc80 bytes",
    "",
    "\x00",
]


def test_any_class_name_is_drawn_without_a_warning():
    draw(np.eye(len(NAMES), dtype=int), NAMES, title="Größe 大 $x$\n" * 9)


def test_a_name_that_cannot_be_drawn_keeps_its_number(monkeypatch):
    monkeypatch.setattr(confusion, "_wide_fonts", lambda: ())
    _, missing = confusion._fonts_for(["猫", "犬 dog"])
    assert confusion._legible_name(3, "猫", missing) == "3: □"
    assert confusion._legible_name(4, "犬 dog", missing) == "4: □ dog"
    assert confusion._legible_name(5, "dog", missing) == "dog"


def test_another_font_is_used_for_what_the_first_one_lacks(monkeypatch):
    # STIXGeneral comes with matplotlib and has this letter; DejaVu Sans has it not.
    monkeypatch.setattr(confusion, "_wide_fonts", lambda: ("No Such Font", "STIXGeneral"))
    families, missing = confusion._fonts_for(["\u1d81"])
    assert families == ["DejaVu Sans", "STIXGeneral"]
    assert not missing
    draw([[1, 0], [0, 1]], ["\u1d81", "b"])


def test_long_names_keep_both_ends():
    short = [confusion._legible_name(0, name, set()) for name in NAMES[6:8]]
    assert short == ["a_very_long_n…_adult", "a_very_long_n…_child"]
    assert all(len(name) == 20 for name in short)


def test_a_row_without_examples_and_an_empty_matrix_are_drawn():
    pixels = draw([[3, 1], [0, 0]])
    grey = (np.abs(pixels - 229).max(axis=2) <= 2).mean()
    assert grey > 0.1
    draw(np.zeros((3, 3), int))


@pytest.mark.slow
def test_large_counts_fit():
    draw(np.full((20, 20), 123_456_789), title="many")


@pytest.mark.slow
def test_threads_draw_the_same_picture():
    matrix, names = np.arange(9).reshape(3, 3), ["a", "b", "猫"]
    expected = draw_confusion_matrix(matrix, names, title="t")
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        drawn = [pool.submit(draw_confusion_matrix, matrix, names, title="t") for _ in range(4)]
        assert all(future.result() == expected for future in drawn)


@pytest.mark.parametrize(
    ("matrix", "names"),
    [
        (np.eye(2, dtype=int), ["a"]),
        (np.ones((2, 3), int), ["a", "b"]),
        (np.eye(2), ["a", "b"]),
        (-np.eye(2, dtype=int), ["a", "b"]),
        (np.zeros((0, 0), int), []),
    ],
)
def test_what_is_no_confusion_matrix_is_refused(matrix, names):
    with pytest.raises(SpecError, match="confusion matrix"):
        draw_confusion_matrix(matrix, names, title="pet")
