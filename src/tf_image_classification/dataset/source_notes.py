"""Sentences for the user about a source: skipped files, and images with contradicting labels."""

from __future__ import annotations

import collections
from collections.abc import Mapping, Sequence

from tf_image_classification.dataset.image_digests import digests, same_length
from tf_image_classification.dataset.readers.listing import LeftOut, Listing
from tf_image_classification.errors import counted
from tf_image_classification.labels import Value

_MOST_COMPARED = 20_000  # files of equal length that are read to find equal ones


def skipped_notes(listing: Listing) -> list[str]:
    """A sentence for each reason why files or rows of a source are skipped."""
    reasons: dict[str, list[LeftOut]] = collections.defaultdict(list)
    for each in listing.left_out:
        reasons["damaged" if each.is_damaged else each.reason].append(each)
    notes = []
    for reason, members in reasons.items():
        if reason.startswith("hidden") or "operating system" in reason:
            continue  # tfic inspect names them
        count = counted(len(members), "file or row", "files or rows")
        notes.append(f"skipped {count}, e.g. {members[0]}")
    return notes


def contradictions(listing: Listing, raw: Mapping[str, Sequence[Value]]) -> list[str]:
    """A sentence about local images that occur twice, byte for byte, with different labels."""
    alike = same_length(listing)
    if len(alike) > _MOST_COMPARED:
        return []
    of_content = collections.defaultdict(list)
    for i, digest in digests(listing, alike).items():
        of_content[digest].append(i)
    pairs = [
        (first, other)
        for first, *others in of_content.values()
        for other in others
        if any(values[first] != values[other] for values in raw.values())
    ]
    if not pairs:
        return []

    def labelled(i: int) -> str:
        labels = ", ".join(str(values[i]) or "no label" for values in raw.values())
        return f"{listing.locate(i)} ({labels})"

    shown = "; ".join(f"{labelled(a)} and {labelled(b)}" for a, b in pairs[:5])
    return [
        f"{counted(len(pairs), 'image occurs', 'images occur')} twice with contradicting labels: "
        f"{shown}. Correct or remove one of each."
    ]
