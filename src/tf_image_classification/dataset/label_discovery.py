"""Which labels a source has, told from the source itself; for those who write no ``class_dict``.

find_labels(["pets/train"], option="train_metadata")  # [Label("label", depth=2)]
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tf_image_classification import files
from tf_image_classification.dataset import tfrecord
from tf_image_classification.dataset.examples import COMMON_LABEL_FEATURE, features_of
from tf_image_classification.dataset.sources import (
    LABEL,
    URI_COLUMN,
    label_rows,
    source_kind,
)
from tf_image_classification.errors import ConfigError, DataError, did_you_mean
from tf_image_classification.labels import SEPARATOR, Label, split_classes
from tf_image_classification.labels.schema import CLASS, SEVERAL, VALUE


def find_labels(
    patterns: Sequence[str],
    *,
    option: str,
    depth: int = 0,
    columns: Sequence[str] = (),
    kinds: Mapping[str, str] | None = None,
) -> list[Label]:
    """The labels of a source.

    Class folders give one class label; so does a CSV without header, or with the column ``labels``.
    Each other column of a CSV with ``URIs`` is a label of its own: a real value when its cells are
    numbers that are not all whole, several classes when a cell joins some with ``|``, else a class.
    Records give the class of ``image/class/label``, or of their only feature that holds one number.

    Args:
        patterns: as ``read_source`` takes them.
        option: the setting they came from, for messages.
        depth: number of classes where it is known from elsewhere; 0: as many as are found.
        columns: the columns of a CSV that are labels; empty: all.
        kinds: kinds of labels by name, where they are not the ones told above.

    Raises:
        DataError: there is nothing to tell labels from.
        ConfigError: a column or a kind is of no label.
    """
    kinds = kinds or {}
    kind, paths = source_kind(patterns, option)
    if kind == "csv":
        cells = _csv_columns(paths)
        _check_known("label_columns", columns, cells)
        chosen = {name: texts for name, texts in cells.items() if name in columns or not columns}
        _check_known("label_kinds", kinds, chosen)
        return [
            _label(name, texts, depth, kinds.get(name, ""), paths[0])
            for name, texts in chosen.items()
        ]
    if kind == "folder":
        names = _class_folders(paths)
        if max(depth, len(names)) < 2:
            found = f"1 class folder ({min(names)})" if names else "no class folders"
            raise DataError(
                f"{', '.join(paths)}: {found}, expected a folder of images for each of two "
                "classes or more. Name the folder that holds them."
            )
        label = Label(LABEL, depth=depth or len(names))
    else:
        label = _of_records(paths, depth)
    _check_known("label_columns", columns, [label.name])
    _check_known("label_kinds", kinds, [label.name])
    if label.name in kinds:
        label = Label(label.name, depth=label.depth, kind=kinds[label.name])
    return [label]


def _check_known(option: str, names: Iterable[str], known: Iterable[str]) -> None:
    for name in names:
        if name not in known:
            raise ConfigError(f"{option}: there is no label {name!r}. {did_you_mean(name, known)}")


def _class_folders(paths: Iterable[str]) -> set[str]:
    return {
        name
        for path in paths
        for name in files.list_folder(path)
        if files.is_folder(files.join(path, name))
    }


def _csv_columns(paths: Sequence[str]) -> dict[str, set[str]]:
    """The different cells of each column that is a label."""
    cells: dict[str, set[str]] = {}
    for path in paths:
        header, rows = label_rows(path)
        for _, row in rows:
            for name, cell in zip(header, row, strict=False):
                if name != URI_COLUMN:
                    cells.setdefault(name, set()).add(cell.strip())
    if not cells:
        raise DataError(
            f"{', '.join(paths)}: no column for a label. Expected rows of path,label, or a header "
            f"with {URI_COLUMN} and the name of each label."
        )
    return cells


def _label(name: str, texts: set[str], depth: int, kind: str, path: str) -> Label:
    texts = texts - {""}
    has_several = any(SEPARATOR in text for text in texts)
    kind = kind or (SEVERAL if has_several else VALUE if _are_real(texts) else CLASS)
    if kind == VALUE:
        return Label(name, kind=VALUE)
    if kind == SEVERAL:
        texts = {part for text in texts for part in split_classes(text)}
    are_numbers = all(text.isdecimal() for text in texts)
    found = max(map(int, texts)) + 1 if are_numbers and texts else len(texts)
    if max(found, depth) < (1 if kind == SEVERAL else 2):
        raise DataError(
            f"{path}: label {name!r} is the same for all examples ({', '.join(texts) or 'empty'}). "
            "Expected at least two classes."
        )
    return Label(name, depth=depth or found, kind=kind)


def _are_real(texts: Iterable[str]) -> bool:
    """Whether all are numbers and some are not whole."""
    try:
        return any(not float(text).is_integer() for text in texts)
    except (ValueError, OverflowError):
        return False


def _of_records(paths: Sequence[str], depth: int) -> Label:
    name, largest = "", 0
    texts: set[str] = set()
    for path in paths:
        with tfrecord.open_plain(path, tfrecord.compression(path)) as stream:
            for number, (_, data, _) in enumerate(tfrecord.scan_records(stream, path)):
                where = f"{path} record {number}"
                features = features_of(data, where)
                name = name or _label_feature(features, where)
                if name in features:
                    texts |= _texts(features[name], f"{where}: {name}")
                    largest = max([largest, *_class_numbers(features[name], f"{where}: {name}")])
    if texts:
        return _label(name, texts, depth, "", paths[0])
    # A record of the common form is read under any name.
    return Label(
        LABEL if name == COMMON_LABEL_FEATURE else name, depth=depth or max(largest + 1, 2)
    )


def _texts(feature: Any, where: str) -> set[str]:
    try:
        return {text.decode("utf-8") for text in feature.bytes_list.value}
    except UnicodeDecodeError as error:
        raise DataError(
            f"{where} is not UTF-8 text ({error}). Write the records' labels as UTF-8."
        ) from error


def _class_numbers(feature: Any, where: str) -> list[int]:
    values = [*feature.int64_list.value, *feature.float_list.value]
    for value in values:
        if value < 0 or not float(value).is_integer():
            raise DataError(
                f"{where} is {value}, expected a class number. "
                "Write a class with class_dict for labels of other kinds."
            )
    return [int(value) for value in values]


def _label_feature(features: Mapping[str, Any], where: str) -> str:
    names = [
        name
        for name, feature in features.items()
        if len(feature.int64_list.value) + len(feature.float_list.value) == 1
    ]
    if COMMON_LABEL_FEATURE in names:
        return COMMON_LABEL_FEATURE
    if LABEL in features and LABEL not in names:
        return LABEL  # a text
    if len(names) != 1:
        raise DataError(
            f"{where} has {len(names)} features that may be its class ({', '.join(names)}). Write "
            "a class with class_dict."
        )
    return names[0]
