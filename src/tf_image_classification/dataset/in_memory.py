"""Examples in memory as a file that the readers know, so that everything after it works alike.

    stored_source((images, labels), option="train_metadata", folder="cache")
    # ("cache/images-0c5e3cf5e4b1.tfrecord",)

Tables and lists of paths become a CSV; pixels and encoded images become TFRecords with PNGs. The
name of a file holds a hash of its content, so the same data give the same file and the same run;
those of a ``tf.data.Dataset`` do in any order, because it may shuffle. Files that were unused for a
week are removed once the folder is too large.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import itertools
import logging
import math
import os
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tf_image_classification.dataset.image.pixels import encoded, is_array, is_image, is_unit_range
from tf_image_classification.dataset.readers.csv_text import URI_COLUMN, table_of
from tf_image_classification.dataset.readers.listing import LABEL
from tf_image_classification.errors import BadImageError, DataError, counted
from tf_image_classification.labels import SEPARATOR
from tf_image_classification.system import files

log = logging.getLogger("tf_image_classification")

Row = dict[str, Any]
_IMAGE = "image"
_NUM_FIRST = 256  # rows of a stream that decide how its values are understood
_MAX_BYTES, _MAX_DAYS = 10 << 30, 7  # of a folder; unused files beyond both are removed
_DARK = 31  # of 255: the largest value of a set of which all images would be almost black
_EXPECTED = (
    "a path, a list of paths, (images, labels), a table with a column of paths or images and one "
    "for each label (pandas, pyarrow, a dict of columns), or a tf.data.Dataset of (image, label)"
)


def stored_source(data: Any, *, option: str, folder: str) -> tuple[str, ...]:
    """The paths of a data set; examples in memory are written to a file first.

    Args:
        data: a path or several; ``(images, labels)``: arrays [n, h, w] or [n, h, w, channels], or
            a list of images or of paths, with n labels, or a mapping of labels by name; a table:
            pandas, polars, pyarrow, or a mapping of columns; or a ``tf.data.Dataset`` of
            ``(image, label)`` or of mappings, batched or not, with an end.
        option: the option that takes it, for messages.
        folder: where files are written, on this machine; created when absent.

    Raises:
        DataError: the data are of another form, empty, or of different lengths.
        BadImageError: pixels have another shape, or other values than 0 to 255 or 0 to 1.
    """
    paths = _paths(data)
    if paths:
        return paths
    rows = _rows(data, option)
    first = next(rows, None)
    if first is None:
        raise DataError(f"{option} holds no examples. Expected one or more rows.")
    rows = itertools.chain([first], rows)
    image = next((n for n, v in first.items() if is_image(v) or (n == _IMAGE and _is_flat(v))), "")
    if len(first) < 2:
        only = next(iter(first))
        raise DataError(f"{option} has only the column {only!r}, expected labels beside it.")
    files.make_folder(folder)
    is_ordered = not _is_dataset(data)
    if image:
        path, count = _write_records(rows, image, folder, _unit_range(data), is_ordered)
        print(f"{option}: {counted(count, 'image')} in memory, stored in {path}")
    else:
        path = _write_table(rows, option, folder, is_ordered)
    _remove_unused(folder)
    return (path,)


def is_path(value: Any) -> bool:
    """Whether a value is a path or a pattern of paths."""
    return isinstance(value, (str, os.PathLike)) and bool(os.fspath(value))


def _paths(data: Any) -> tuple[str, ...]:
    """The paths of a source that is stored already; () for data in memory."""
    if is_path(data):
        return (os.fspath(data),)
    if isinstance(data, (list, tuple)) and data and all(map(is_path, data)):
        return tuple(map(os.fspath, data))
    return ()


def _rows(data: Any, option: str) -> Iterator[Row]:
    """The examples by column, of data in memory of any form."""
    if _is_dataset(data):
        return _rows_of_dataset(data, option)
    if isinstance(data, list) and data and all(isinstance(e, tuple) and len(e) == 2 for e in data):
        data = tuple(zip(*data, strict=True))  # pairs of an image and its label
    if isinstance(data, (tuple, list)) and len(data) == 2:
        return _rows_of_columns(_columns_of_pair(*data, option=option), option)
    columns = _columns_of_table(data)
    if columns is None:
        alone = " It has no labels." if is_array(data) or isinstance(data, (list, tuple)) else ""
        raise DataError(f"{option} is {_described(data)}, expected {_EXPECTED}.{alone}")
    return _rows_of_columns(columns, option)


def _is_dataset(data: Any) -> bool:
    return hasattr(data, "element_spec")


def _columns_of_table(data: Any) -> dict[str, Sequence[Any]] | None:
    """The columns of a table of any library; None if it is no table."""
    if isinstance(data, Mapping):
        return {str(name): _listed(values) for name, values in data.items()}
    if hasattr(data, "to_pydict"):  # pyarrow
        return dict(data.to_pydict())
    if hasattr(data, "columns") and hasattr(data, "__getitem__"):  # pandas, polars
        return {str(name): _listed(data[name]) for name in data.columns}
    return None


def _columns_of_pair(images: Any, labels: Any, *, option: str) -> dict[str, Sequence[Any]]:
    if not all(map(_is_collection, (images, labels))):
        raise DataError(
            f"{option} is a pair of {_described(images)} and {_described(labels)}, expected "
            "(images, labels): n images or paths, and n labels."
        )
    images = _listed(images)
    name = URI_COLUMN if len(images) and is_path(images[0]) else _IMAGE
    by_name = _columns_of_table(labels)
    if by_name is None:
        by_name = {LABEL: _listed(labels)}
    return {name: images, **by_name}


def _is_collection(value: Any) -> bool:
    return isinstance(value, Mapping) or (
        hasattr(value, "__len__")
        and hasattr(value, "__getitem__")
        and not isinstance(value, (str, bytes))
    )


def _is_flat(value: Any) -> bool:
    return is_array(value) and np.ndim(value) == 1


def _described(value: Any) -> str:
    """A value in a message: a text as it is, else its type and its shape."""
    if isinstance(value, str):
        return repr(value)
    return type(value).__name__ + (f" {list(value.shape)}" if is_array(value) else "")


def _listed(values: Any) -> Sequence[Any]:
    """Values of a column as a sequence; arrays of numbers stay arrays."""
    if is_array(values) and np.asarray(values).dtype != object:
        return np.asarray(values)  # type: ignore[return-value]
    return values if isinstance(values, (list, tuple)) else list(values)


def _rows_of_columns(columns: Mapping[str, Sequence[Any]], option: str) -> Iterator[Row]:
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise DataError(f"{option} has columns of different lengths: {shown}. Expected one length.")
    return (
        dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)
    )


def _rows_of_dataset(data: Any, option: str) -> Iterator[Row]:
    """The elements of a tf.data.Dataset, whose images may be pixels, encoded images or paths."""
    original, spec = data, data.element_spec
    if isinstance(spec, tuple) and len(spec) == 2:
        data = data.map(
            lambda image, labels: {
                _IMAGE: image,
                **(labels if isinstance(labels, dict) else {LABEL: labels}),
            }
        )
    elif not isinstance(spec, dict):
        raise DataError(
            f"{option} is a tf.data.Dataset of {spec}, expected elements (image, label) or "
            "mappings."
        )
    if data.cardinality() == -1:  # tf.data.INFINITE_CARDINALITY
        raise DataError(f"{option} is a tf.data.Dataset that never ends. Remove its repeat().")
    ranks = [(part.shape.rank, part.dtype.name == "string") for part in data.element_spec.values()]
    if any(rank == (1 if is_text else 4) for rank, is_text in ranks[:1]):
        data = data.unbatch()
    class_names = getattr(original, "class_names", None)  # of Keras's image_dataset_from_directory
    return (_with_texts(row, class_names) for row in data.as_numpy_iterator())


def _with_texts(row: Row, class_names: Sequence[str] | None) -> Row:
    """A row of a tf.data.Dataset with paths, texts and names of classes as texts."""
    found = {}
    for name, value in row.items():
        if isinstance(value, bytes):
            with contextlib.suppress(UnicodeDecodeError):  # an encoded image stays
                value = value.decode()
        elif class_names and name == LABEL and np.size(value) == 1:
            value = class_names[int(np.rint(value).item())]
        elif class_names and name == LABEL and _is_one_hot(value):
            value = class_names[int(value.argmax())]
        found[name] = value
    return found


def _unit_range(data: Any) -> bool | None:
    """Whether the images of a pair are from 0 to 1 if they are one array of real numbers."""
    if isinstance(data, (tuple, list)) and is_array(data[0]):
        return is_unit_range(np.asarray(data[0]))
    return None


def _write_table(rows: Iterable[Row], option: str, folder: str, is_ordered: bool) -> str:
    """Write a CSV with absolute paths; returns its path.

    Without order the same rows in another one are found again.
    """
    rows = list(rows)
    header = list(rows[0])
    cells = [[_cell(row[name]) for name in header] for row in rows]
    table = table_of(_csv_text([header, *cells]), option)
    for row in cells:
        uri = os.path.expanduser(row[table.image])
        if uri and not files.is_remote(uri) and not uri.startswith(("http://", "https://")):
            row[table.image] = os.path.abspath(uri)
    data = _csv_text([header, *cells]).encode("utf-8", "surrogateescape")
    hashed = data if is_ordered else repr([header, *sorted(cells)]).encode()
    path = os.path.join(folder, f"table-{hashlib.sha256(hashed).hexdigest()[:12]}.csv")
    if is_ordered or not _is_used_again(path):
        files.write_bytes(path, data)
    return path


def _is_used_again(path: str) -> bool:
    """Whether a file exists; then it counts as used now."""
    if not os.path.exists(path):
        return False
    os.utime(path)
    return True


def _remove_unused(folder: str) -> None:
    """Remove files that were unused for a week, oldest first, from a folder that is too large."""
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):  # another process has removed it
                found.append((entry.stat(), entry.path))
    found.sort(key=lambda entry: entry[0].st_mtime)
    size, newest_kept = sum(stat.st_size for stat, _ in found), time.time() - _MAX_DAYS * 86_400
    for stat, path in found:
        if size <= _MAX_BYTES or stat.st_mtime > newest_kept:
            return
        log.info("removed %s: data in memory that were unused for a week", path)
        files.remove_file(path)
        size -= stat.st_size


def _csv_text(rows: Iterable[Sequence[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _write_records(
    rows: Iterator[Row], image: str, folder: str, is_unit: bool | None, is_ordered: bool
) -> tuple[str, int]:
    """Write TFRecords with encoded images; returns the path and the number of examples.

    Without order the same examples in another one are found again.
    """
    from tf_image_classification.dataset.tfrecord import framed, make_example  # late: TensorFlow

    first = list(itertools.islice(rows, _NUM_FIRST))
    if is_unit is None:
        pixels = [np.asarray(row[image]) for row in first if is_array(row[image])]
        is_unit = bool(pixels) and all(map(is_unit_range, pixels))
    read_labels = {name: _label_reader([r[name] for r in first]) for name in first[0]}
    digest, hashes, count, levels = hashlib.sha256(), [], 0, _Levels()
    temporary = os.path.join(folder, f".{uuid.uuid4().hex}")
    try:
        with open(temporary, "wb") as stream:
            for row in itertools.chain(first, rows):
                try:
                    data = encoded(row[image], is_unit=is_unit)
                    levels.add(row[image])
                    labels = {n: read_labels[n](v) for n, v in row.items() if n != image}
                except (BadImageError, DataError) as error:
                    raise type(error)(f"image {count}: {error}") from error
                record = framed(make_example(data, str(count), labels, keeps_integers=True))
                if is_ordered:
                    digest.update(record)
                else:
                    content = repr((data, sorted(labels.items()))).encode()
                    hashes.append(hashlib.sha256(content).digest())
                stream.write(record)
                count += 1
        levels.check(is_unit)
        for each in sorted(hashes):
            digest.update(each)
        path = os.path.join(folder, f"images-{digest.hexdigest()[:12]}.tfrecord")
        if is_ordered or not _is_used_again(path):
            files.rename(temporary, path)
    finally:
        files.remove_file(temporary)
    return path, count


class _Levels:
    """The largest pixel value of a set, to find values that are scaled otherwise."""

    def __init__(self) -> None:
        self._largest = -1.0
        self._type = ""

    def add(self, image: Any) -> None:
        """Count an image of pixels."""
        if is_array(image) and np.size(image):
            self._largest = max(self._largest, float(np.max(image)))
            self._type = str(np.asarray(image).dtype)

    def check(self, is_unit: bool) -> None:
        """Refuse a set of which all images would be almost black.

        Raises:
            BadImageError: no value is above 31 of 255.
        """
        if is_unit or not 0 <= self._largest <= _DARK or self._type == "bool":
            return
        text = (
            f"The largest pixel value of all images is {self._largest:g} of 255, so that they are "
            f"almost black. If they are from 0 to {self._largest:g}, give "
            f"images * (255 / {self._largest:g})."
        )
        if self._type != "uint8":
            raise BadImageError(text)
        log.warning(text)


def _label_reader(values: Sequence[Any]) -> Callable[[Any], Any]:
    """The function that makes a label for a record of a cell, chosen by the first cells.

    A vector with a single 1 in each of the first cells is one-hot: it becomes the class's number.
    """
    vectors = [np.asarray(v) for v in values if not isinstance(v, str) and np.ndim(v)]
    is_one_hot = bool(vectors) and all(map(_is_one_hot, vectors))

    def read(value: Any) -> Any:
        if isinstance(value, str) or not np.ndim(value) or np.size(value) == 1:
            return _scalar(value)
        vector = np.asarray(value)
        if vector.dtype.kind in "USO":
            return _joined(vector.tolist())
        if not is_one_hot:
            return [float(part) for part in vector.tolist()]
        if not _is_one_hot(vector):
            raise DataError(
                f"label is {vector.tolist()}, expected a single 1, as in the first images. For "
                'several classes an image give their names, joined: "cat|dog".'
            )
        return int(vector.argmax())

    return read


def _is_one_hot(vector: Any) -> bool:
    return bool(
        vector.dtype.kind in "biuf"
        and vector.ndim == 1
        and vector.size > 1
        and (vector == 1).sum() == 1
        and (vector == 0).sum() == vector.size - 1
    )


def _scalar(value: Any) -> Any:
    """A cell as a whole number, a real number or a text; None if it is unknown."""
    if isinstance(value, (list, tuple)) or (is_array(value) and np.ndim(value)):
        value = np.asarray(value).reshape(())
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, (bool, int)):
        return int(value)
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return None
    if isinstance(value, float) and math.isnan(value):
        return None
    return value if isinstance(value, (float, str)) else str(value)


def _joined(classes: Iterable[Any]) -> str:
    return SEPARATOR.join(map(str, classes))


def _cell(value: Any) -> str:
    """A value as a cell of a CSV; "" if it is unknown."""
    if isinstance(value, (list, tuple, set)) or (is_array(value) and np.ndim(value)):
        return _joined(sorted(value) if isinstance(value, set) else value)
    if isinstance(value, os.PathLike):
        return str(value)
    value = _scalar(value)
    return "" if value is None else str(value)
