"""PNG images of confusion matrices, for 2 to some hundreds of classes.

    png = draw_confusion_matrix(matrix, ("cat", "dog"), title="pet")

Uses matplotlib's objects without pyplot, that is, without global state: thread-safe.
"""

from __future__ import annotations

import functools
import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tf_image_classification.errors import SpecError

_FONT = "DejaVu Sans"  # comes with matplotlib
_MAX_CLASSES_WITH_COUNTS = 20
_MAX_NAME = 20  # characters
_MIN_LABEL_STEP = 0.11  # inches from one class name to the next
_PLAIN = {"parse_math": False, "usetex": False}  # a class may be called $100


def draw_confusion_matrix(
    matrix: npt.NDArray[Any], class_names: Sequence[str], *, title: str
) -> bytes:
    """A PNG image of a confusion matrix.

    A cell's colour is its fraction of the row, that is, of the true class; a row without examples
    is grey. With up to 20 classes the cells show counts; with more, colours follow the root of the
    fraction, so that rare confusions are visible. With more than about 200 classes not every class
    is named.

    Args:
        matrix: whole numbers [D, D], 0 or more; rows are true classes, columns predicted ones.
        class_names: D names. Long ones are shortened in the middle; a character that no installed
            font has becomes a box, and the class number is added.
        title: the first line above the matrix; the second has the number of examples and the
            accuracy.

    Returns:
        The PNG file, 400 to some 3000 pixels wide and high.

    Raises:
        SpecError: the matrix is not square, has other values than counts, or not a row per name.
    """
    # Late: matplotlib takes a second to load.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    counts = _checked(matrix, class_names)
    num = len(counts)
    cell = _cell_inches(num)
    given = [_on_one_line(text) for text in [*class_names, title]]
    families, missing = _fonts_for(given)
    names = [_legible_name(i, name, missing) for i, name in enumerate(given[:-1])]
    heading = _shortened(_boxed(given[-1], missing), 80)
    text_style: dict[str, Any] = {"family": families, **_PLAIN}

    # Axes of the size of the cells; the saved figure is cropped to its content.
    side = num * cell
    figure = Figure(figsize=(side, side), dpi=100)
    renderer = FigureCanvasAgg(figure).get_renderer()
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    image = _draw_cells(axes, counts)
    if num <= _MAX_CLASSES_WITH_COUNTS:
        _write_counts(axes, counts, cell)
    _name_classes(axes, names, cell, text_style)
    bar = figure.add_axes((1.0 + 0.15 / side, 0.0, 0.15 / side, 1.0))
    figure.colorbar(image, cax=bar, label="fraction of the true class")
    axes.set_title(f"{heading}\n{_summary(counts)}", fontsize=11, **text_style)

    buffer = io.BytesIO()
    # The same as bbox_inches="tight", which draws everything twice.
    content = figure.get_tightbbox(renderer)
    figure.savefig(buffer, format="png", dpi=100, bbox_inches=content.padded(0.15))
    return buffer.getvalue()


def _checked(matrix: npt.NDArray[Any], class_names: Sequence[str]) -> npt.NDArray[np.int64]:
    counts = np.asarray(matrix)
    num = len(class_names)
    if counts.shape != (num, num) or num == 0:
        raise SpecError(
            f"Drawing a confusion matrix of shape {list(counts.shape)} with {num} class names, "
            "expected a row and a column for each class."
        )
    if counts.dtype.kind not in "iu" or (counts < 0).any():
        raise SpecError(
            f"Drawing a confusion matrix of {counts.dtype} with minimum {counts.min()}, expected "
            "counts: whole numbers, 0 or more."
        )
    return counts.astype(np.int64)


def _cell_inches(num_classes: int) -> float:
    """Width of a cell: enough for a count up to 20 classes, for a class name up to 200."""
    if num_classes <= _MAX_CLASSES_WITH_COUNTS:
        return min(1.2, max(0.5, 5.0 / num_classes))
    return min(max(10.0 / num_classes, _MIN_LABEL_STEP), 24.0 / num_classes)


def _draw_cells(axes: Any, counts: npt.NDArray[np.int64]) -> Any:
    from matplotlib import colormaps
    from matplotlib.colors import PowerNorm

    of_class = counts.sum(axis=1, keepdims=True)
    fractions = np.ma.masked_where(
        np.broadcast_to(of_class == 0, counts.shape), counts / np.maximum(of_class, 1)
    )
    colours = colormaps["Blues"].with_extremes(bad="0.9")
    gamma = 1.0 if len(counts) <= _MAX_CLASSES_WITH_COUNTS else 0.5
    norm = PowerNorm(gamma, vmin=0.0, vmax=1.0)
    return axes.imshow(fractions, cmap=colours, norm=norm, interpolation="nearest", aspect="auto")


def _write_counts(axes: Any, counts: npt.NDArray[np.int64], cell: float) -> None:
    of_class = counts.sum(axis=1)
    digits = len(str(counts.max()))
    size = min(12.0, cell * 72 / (0.7 * digits + 0.6))  # points; a digit is 0.64 of its height wide
    for (row, column), count in np.ndenumerate(counts):
        is_dark = count > 0.5 * of_class[row]
        axes.text(
            column,
            row,
            str(count),
            ha="center",
            va="center",
            fontsize=size,
            color="white" if is_dark else "black" if count else "0.6",
            family=_FONT,
        )


def _name_classes(axes: Any, names: Sequence[str], cell: float, style: dict[str, Any]) -> None:
    step = math.ceil(_MIN_LABEL_STEP / cell - 1e-9)
    places = range(0, len(names), step)
    shown = [names[i] for i in places]
    size = min(10.0, max(5.5, cell * 72 * 0.7 * step))
    # Side by side where they fit, else upright.
    is_narrow = max(len(name) for name in shown) * 0.75 * size / 72 > cell
    axes.set_xticks(places, shown, fontsize=size, rotation=90 if is_narrow else 0, **style)
    axes.set_yticks(places, shown, fontsize=size, **style)
    axes.tick_params(length=2)
    note = f" (1 in {step} named)" if step > 1 else ""
    axes.set_xlabel("predicted class" + note, fontsize=11)
    axes.set_ylabel("true class" + note, fontsize=11)


def _summary(counts: npt.NDArray[np.int64]) -> str:
    total = int(counts.sum())
    if not total:
        return "no examples"
    return f"{total:,} examples, accuracy {np.trace(counts) / total:.1%}"


def _fonts_for(texts: Sequence[str]) -> tuple[list[str], set[str]]:
    """Font families for the texts, and the characters that none of them has."""
    families = [_FONT]
    missing = set("".join(texts)) - _characters(_FONT)
    if missing:
        for family in _wide_fonts():
            if missing & _characters(family):
                families.append(family)
                missing -= _characters(family)
    return families, missing


def _legible_name(number: int, name: str, missing: set[str]) -> str:
    """A class name for an axis; after its number if a character is missing in all fonts."""
    drawn = _boxed(name, missing)
    return _shortened(drawn if drawn == name else f"{number}: {drawn}", _MAX_NAME)


def _boxed(text: str, missing: set[str]) -> str:
    # Matplotlib would warn of each missing character.
    return "".join("□" if character in missing else character for character in text)


def _on_one_line(text: str) -> str:
    return " ".join(text.split())


def _shortened(text: str, longest: int) -> str:
    """The text with an ellipsis in the middle, since names often differ at one end only."""
    if len(text) <= longest:
        return text
    tail = longest // 3
    return f"{text[: longest - tail - 1]}…{text[-tail:]}"


@functools.cache
def _characters(family: str) -> frozenset[str]:
    """The characters of a font family; empty when its file cannot be read."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    try:
        font = get_font(findfont(FontProperties(family=[family]), fallback_to_default=False))
    except (OSError, RuntimeError, ValueError):
        return frozenset()
    return frozenset(map(chr, font.get_charmap()))


@functools.cache
def _wide_fonts() -> tuple[str, ...]:
    """Installed font families with many characters, by name."""
    from matplotlib.font_manager import fontManager

    marks = ("noto sans", "cjk", "unicode", "unifont", "droid", "wenquanyi", "yahei", "hiragino")
    found = {font.name for font in fontManager.ttflist}
    chosen = (n for n in found if any(m in n.lower() for m in marks) and "emoji" not in n.lower())
    return tuple(sorted(chosen))
