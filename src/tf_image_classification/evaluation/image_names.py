"""Matching the names that other programs give images with those of an evaluation.

>>> finder = ImageFinder(["pets/cat/1.jpg", "pets/dog/1.jpg", "pets/dog/2.jpg"])
>>> finder.rows("/data/pets/dog/1.jpg", by_base=False), finder.rows("2.jpg", by_base=False)
([1], [2])
"""

from __future__ import annotations

import collections
import re
from collections.abc import Sequence


class ImageFinder:
    """The examples by name, end of the path, base name and stem."""

    def __init__(self, uris: Sequence[str]) -> None:
        """Index the names of the examples."""
        self._whole: dict[str, list[int]] = collections.defaultdict(list)
        self._base: dict[str, list[int]] = collections.defaultdict(list)
        self._stem: dict[str, list[int]] = collections.defaultdict(list)
        self._paths = [_plain(uri) for uri in uris]
        for row, path in enumerate(self._paths):
            base = _base(path)
            self._whole[path].append(row)
            self._base[base].append(row)
            self._stem[base.rpartition(".")[0] or base].append(row)

    def rows(self, name: str, *, by_base: bool) -> list[int]:
        """The examples that a name may mean.

        Args:
            name: a path or base name, also without its ending.
            by_base: whether a base name alone may decide between paths of different folders.
        """
        path = _plain(name)
        if path in self._whole:
            return self._whole[path]
        base = _base(path)
        candidates = self._base.get(base) or self._stem.get(base, [])
        ends = [row for row in candidates if _ends_alike(self._paths[row], path)]
        if ends:
            return ends
        folder = path.split("/")[-2:]
        same = [row for row in candidates if self._paths[row].split("/")[-2:] == folder]
        return same or (candidates if by_base else [])


def _ends_alike(one: str, other: str) -> bool:
    """Whether one path is the end of the other; also where the other is without its ending."""
    one, other = (each if "." in _base(each) else f"{each}." for each in (one, other))
    if other.endswith("."):
        one = f"{one.rpartition('.')[0]}."
    return f"/{one}".endswith(f"/{other}") or f"/{other}".endswith(f"/{one}")


def _base(path: str) -> str:
    return path.rpartition("/")[2]


def _plain(name: str) -> str:
    path = re.sub(r"^(?:file://|\./)", "", name.replace("\\", "/"))
    return re.sub(r"/+", "/", path)


def base_name(name: str) -> str:
    r"""The last part of a path in any spelling.

    Example:
        >>> base_name(r"C:\pets\1.jpg")
        '1.jpg'
    """
    return _base(_plain(name))
