"""``tfic backbones [WORD ...]``: the built-in backbones with size, cost and accuracy."""

from __future__ import annotations

import dataclasses
import sys

from tf_image_classification import backbones
from tf_image_classification.cli.verb import verb
from tf_image_classification.config import Settings, declare


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arguments:
    """The arguments of ``tfic backbones``."""

    words: tuple[str, ...] = declare((), "List only backbones whose name or alias contains one.")


@verb(
    "backbones",
    Arguments,
    description="List the built-in backbones for --backbone and backbones.create. KerasHub's "
    "presets are\nnamed hub:PRESET (pip install 'tf_image_classification[hub]').",
    example="tfic backbones resnet",
    positions=("words",),
    is_listing=True,
)
def main(given: Arguments, settings: Settings) -> int:
    """Print the list; returns 1 when nothing fits."""
    found = [
        backbone
        for backbone in map(backbones.find, backbones.names())
        if not given.words
        or any(w.lower() in n for w in given.words for n in (backbone.name, *backbone.aliases))
    ]
    if not found:
        text = f"No backbone has a name like {' or '.join(given.words)}. tfic backbones lists them."
        print(text, file=sys.stderr)
        return 1
    head = ("name", "pixels", "M params", "GFLOPs", "top-1 %", "source of top-1")
    rows = [
        (
            b.name,
            str(b.image_size),
            f"{b.params:.1f}",
            f"{b.gflops:.2f}",
            "" if b.top1 is None else f"{b.top1:.1f}",
            b.source,
        )
        for b in found
    ]
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    for row in (head, *rows):
        name, *numbers, source = (
            cell.rjust(width) if 0 < i < 5 else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        print("  ".join((name, *numbers, source)).rstrip())
    print("Without the classifier, for one image of that size; a multiply-add counts as two.")
    return 0
