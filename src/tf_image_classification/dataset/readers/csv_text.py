"""The rows of a CSV file of any dialect: its delimiter, its header, and the column of images.

    table = read_table("train.csv")
    table.columns["class"], table.image, table.rows

Files may have a header or none, commas, tabs, semicolons, bars or spaces as delimiters, and the
index column that pandas writes.
"""

from __future__ import annotations

import collections
import csv
import dataclasses
import gzip
import io
import itertools
import re
import zlib
from collections.abc import Iterator, Sequence

from tf_image_classification.dataset.readers import names
from tf_image_classification.dataset.readers.listing import LABEL
from tf_image_classification.errors import DataError
from tf_image_classification.system import files

URI_COLUMN = "URIs"
LABEL_COLUMN = "labels"
SUFFIXES = (".csv", ".tsv", ".tab", ".txt", ".lst", ".list", ".csv.gz", ".tsv.gz")
"""Endings of files that are read as rows of text."""

_IMAGE_COLUMNS = frozenset(
    {
        *("uri", "url", "path", "filepath", "file", "filename", "fname", "location"),
        *("image", "imagepath", "imagefile", "imagefilename", "imagename", "imageuri", "imageurl"),
        *("img", "imgpath", "imgfile", "imgname", "photo", "picture", "pic", "gcsuri"),
    }
)
_ID_COLUMNS = frozenset({"id", "imageid", "imgid", "photoid", "pictureid", "fileid", "idcode"})
"""Columns that may name images without an ending, if no other column names any."""

_INDEX = re.compile(r"|Unnamed: \d+|index|level_0")
_UNIT_SEPARATOR = "\x1f"  # which no path holds
_SAMPLED = 200  # rows that decide delimiter and header
_FLAGS = {"is_valid": ("val", "train"), "is_val": ("val", "train"), "is_train": ("train", "val")}
_TRUE, _FALSE = ("true", "1", "1.0", "yes"), ("false", "0", "0.0", "no")


@dataclasses.dataclass(frozen=True)
class CsvTable:
    """The rows of a CSV.

    Attributes:
        path: the file.
        columns: by name, the index of each column but those of the images and of pandas.
        image: index of the column that names the images.
        num_cells: cells that each row must have.
        has_header: whether its first row names the columns.
        rows: number of the first line and cells of each row, without the header.
    """

    path: str
    columns: dict[str, int]
    image: int
    num_cells: int
    has_header: bool
    rows: Sequence[tuple[int, list[str]]]


def read_table(path: str) -> CsvTable:
    """The rows and columns of a CSV.

    Raises:
        DataError: it is not UTF-8, is empty, names a column twice, or no column names images.
    """
    return table_of(_text(path), path)


def table_of(text: str, path: str) -> CsvTable:
    """The rows and columns of a CSV's text; ``path`` names it in messages.

    Raises:
        DataError: as ``read_table``.
    """
    delimiter = _delimiter(text, path)
    rows = [(line, _stripped(row)) for line, row in _numbered(text, path, delimiter) if any(row)]
    if not rows:
        raise DataError(f"{path} is empty. Expected one row per image: path,label.")
    width = _usual_width([row for _, row in rows])
    sample = [row for _, row in rows[1:_SAMPLED] if len(row) == width]
    header = rows[0][1]
    if not _is_header(header, sample):
        return _without_header(path, rows, width)
    if len(rows) == 1:
        raise DataError(f"{path} names no examples, only a header. Expected one row per image.")
    return _with_header(path, header, rows[1:], sample)


def _text(path: str) -> str:
    data = files.read_bytes(path)
    if data[:2] == b"\x1f\x8b":
        try:
            data = gzip.decompress(data)
        except (EOFError, OSError, zlib.error) as error:
            raise DataError(
                f"{path} is cut short or damaged ({error}). Copy or write it again."
            ) from error
    try:
        is_utf_16 = data[:2] in (b"\xff\xfe", b"\xfe\xff")  # as spreadsheets write "Unicode text"
        text = data.decode("utf-16" if is_utf_16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text ({error}). Save it as UTF-8.") from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise DataError(
            f"{path} line {line} holds a NUL byte, which text cannot hold. Save the file as "
            "UTF-8, or correct the line."
        )
    return text


def _numbered(text: str, path: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """The rows that are not empty, each with the number of its first line."""
    stream = io.StringIO(text, newline="")
    reader = csv.reader(stream, delimiter=delimiter, skipinitialspace=True)
    first_line = 1
    try:
        for row in reader:
            if row:
                yield first_line, row
            first_line = reader.line_num + 1
    except csv.Error as error:
        raise DataError(
            f"{path}: the row that begins in line {first_line} cannot be read ({error}). "
            "Look for a double quote that is not closed."
        ) from error


def _stripped(row: list[str]) -> list[str]:
    return [cell.strip() for cell in row]


def _delimiter(text: str, path: str) -> str:
    """The delimiter that gives a column of images, and most rows the same number of cells.

    Spaces delimit only where nothing else can, and where lines are not mere paths with spaces.
    """
    marks = [",", "\t", ";", "|"]
    if path.lower().endswith((".tsv", ".tab", ".tsv.gz")):
        marks = ["\t", ",", ";", "|"]
    if not any(mark in text for mark in marks):
        lines = text.split("\n", _SAMPLED)[:_SAMPLED]
        are_paths = all(_names_image(line.strip()) for line in lines if line.strip())
        return _UNIT_SEPARATOR if are_paths else " "
    scores = {}
    for mark in marks:
        try:
            rows = list(itertools.islice((row for _, row in _numbered(text, path, mark)), _SAMPLED))
        except DataError:
            continue  # raised for the delimiter that is chosen
        width = _usual_width(rows)
        if width < 2:
            continue
        regular = [_stripped(row) for row in rows if len(row) == width]
        scores[mark] = (
            _has_image_column(rows[0]),
            bool(_image_places(regular)),
            len(regular) / len(rows),
        )
    return max(scores, key=lambda mark: scores[mark]) if scores else marks[0]


def _usual_width(rows: Sequence[Sequence[str]]) -> int:
    """The number of cells of most rows; of the rows with labels, if most rows of a table lack one.

    Lines of two cells or more are a table if a header names the images, or if each begins with the
    name of an image and ends in something else; in a list, the delimiter is part of a path.
    """
    counts = collections.Counter(map(len, rows))
    width = max(counts, key=lambda width: (counts[width], width > 1, -width), default=0)
    longer = [row for row in rows if len(row) > 1]
    if width == 1 and longer:
        are_labelled = all(_names_image(row[0].strip()) for row in longer)
        are_paths = any(_names_image(row[-1].strip()) for row in longer)
        is_table = _has_image_column(rows[0]) or (are_labelled and not are_paths)
        return _usual_width(longer) if is_table else width
    return width


def _has_image_column(header: Sequence[str]) -> bool:
    """Whether one of two cells or more is a usual name of the column of images."""
    return len(header) > 1 and any(_word(cell) in _IMAGE_COLUMNS for cell in header)


def _image_places(rows: Sequence[Sequence[str]]) -> list[int]:
    """The indexes of columns most of whose cells end like names of images."""
    return [
        place
        for place, cells in enumerate(zip(*rows, strict=False))
        if 2 * sum(map(_names_image, cells)) > len(cells)
    ]


def _names_image(cell: str) -> bool:
    return names.is_image_name(cell) or bool(names.foreign_format(cell))


def _word(name: str) -> str:
    """A column's name in its plainest form: "Image_Paths" is "imagepath"."""
    return re.sub("[^a-z0-9]", "", name.lower()).removesuffix("s")


def _is_header(first: Sequence[str], sample: Sequence[Sequence[str]]) -> bool:
    if URI_COLUMN in first:
        return True
    if any(map(_names_image, first)):
        return False
    if any(_word(cell) in _IMAGE_COLUMNS for cell in first):
        return True
    return bool(_image_places(sample)) or (len(first) > 1 and _word(first[0]) in _ID_COLUMNS)


def _with_header(
    path: str,
    header: Sequence[str],
    rows: Sequence[tuple[int, list[str]]],
    sample: Sequence[Sequence[str]],
) -> CsvTable:
    repeated = next((name for name in header if name and header.count(name) > 1), "")
    if repeated:
        raise DataError(f"{path} names column {repeated!r} twice. Rename or remove one of them.")
    if LABEL in header and LABEL_COLUMN in header:
        raise DataError(
            f"{path} has columns {LABEL_COLUMN!r} and {LABEL!r}, which are two names of one label. "
            "Rename or remove one of them."
        )
    image = _image_column(path, header, sample)
    columns = {}
    for place, name in enumerate(header):
        if place == image:
            continue
        cells = [row[place] for _, row in rows if place < len(row)]
        if _INDEX.fullmatch(name) and (_is_counted(cells) or not any(cells)):
            continue  # pandas's index, or the empty column after a last delimiter
        if not name:
            raise DataError(
                f"{path}: column {place + 1} has no name in the header and holds values, e.g. "
                f"{next(filter(None, cells))!r}. Name it or remove it."
            )
        columns[LABEL if name == LABEL_COLUMN else name] = place
    num_cells = len(header)
    while num_cells and not header[num_cells - 1]:
        num_cells -= 1
    return CsvTable(path, columns, image, num_cells, True, rows)


def _image_column(path: str, header: Sequence[str], sample: Sequence[Sequence[str]]) -> int:
    if URI_COLUMN in header:
        return header.index(URI_COLUMN)
    called_so = [i for i, name in enumerate(header) if _word(name) in _IMAGE_COLUMNS]
    with_images = _image_places(sample)
    ids = [i for i, name in enumerate(header) if _word(name) in _ID_COLUMNS]
    for candidates in (sorted({*called_so} & {*with_images}), with_images, called_so, ids[:1]):
        if len(candidates) == 1:
            return candidates[0]
        if candidates:
            shown = " and ".join(repr(header[i]) for i in candidates)
            raise DataError(
                f"{path}: columns {shown} may both name the images. Rename the one that does to "
                f"{URI_COLUMN}."
            )
    raise DataError(_without_images(path, header))


def _without_images(path: str, header: Sequence[str]) -> str:
    shown = ", ".join(header[:5]) + (", ..." if len(header) > 5 else "")
    return (
        f"{path}: no column names images, only {shown}. Expected a column of paths; call it "
        f"{URI_COLUMN}. Write pixels that are columns as image files first."
    )


def _are_names(first: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
    """Whether a first row looks like a header: texts, above a column of numbers."""
    if any(map(_is_number, first)):
        return False
    return any(all(map(_is_number, cells)) for cells in zip(*rows[1:], strict=False))


def _is_number(cell: str) -> bool:
    return re.fullmatch(r"-?\d*\.?\d+", cell) is not None


def _is_counted(cells: Sequence[str]) -> bool:
    """Whether cells count the rows, from 0 or 1."""
    numbers = [int(cell) if re.fullmatch(r"\d{1,12}", cell) else -1 for cell in cells]
    return bool(numbers) and numbers in (
        list(range(len(numbers))),
        list(range(1, len(numbers) + 1)),
    )


def _without_header(path: str, rows: Sequence[tuple[int, list[str]]], width: int) -> CsvTable:
    regular = [row for _, row in rows if len(row) == width]
    places = list(range(width))
    while len(places) > 2 and not any(row[places[-1]] for row in regular):
        places.pop()  # the empty column after a last delimiter
    num_cells = len(places)
    images = _image_places(regular)
    image = images[0] if images else 0
    if len(places) > 2 and _is_counted([row[0] for row in regular]) and image:
        places.remove(0)
    columns = {}
    for place in places:
        cells = [row[place] for row in regular]
        if place == image:
            continue
        if len(places) > 2 and all(
            cell.lower() in _OF_CLOUD or names.part_role(cell) for cell in cells
        ):
            columns["split"] = place
        elif LABEL in columns:
            if _are_names(rows[0][1], regular):
                raise DataError(_without_images(path, rows[0][1]))
            raise DataError(
                f"{path} line {rows[0][0]} has {len(rows[0][1])} cells, expected path,label: "
                f"{','.join(rows[0][1])[:100]!r}. Put a name with a comma in double quotes, or "
                f"write a header with {URI_COLUMN}."
            )
        else:
            columns[LABEL] = place
    return CsvTable(path, columns, image, num_cells, False, rows)


_OF_CLOUD = ("unassigned",)  # a part that Google Cloud's import files know


def parts_of(table: CsvTable, name: str) -> list[str] | None:
    """The part of the data set of each row, from a column; None if the column names no parts.

    Args:
        table: the rows.
        name: one of its columns.
    """
    place = table.columns[name]
    cells = [row[place].lower() if place < len(row) else "" for _, row in table.rows]
    known = set(cells) - {"", *_OF_CLOUD}
    lower = name.lower()
    if lower in _FLAGS and known and known <= {*_TRUE, *_FALSE}:
        yes, no = _FLAGS[lower]
        return [yes if cell in _TRUE else no for cell in cells]
    is_part = lower in names.PART_COLUMNS or lower == "ml_use"
    if not is_part or not known or not all(map(names.part_role, known)):
        return None
    return ["" if cell in _OF_CLOUD else cell for cell in cells]
