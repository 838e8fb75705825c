"""``tfic backbones [WORD ...]``: the ready networks with their facts."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from tf_image_classification import backbones
from tf_image_classification.cli import arguments as cli_arguments

USAGE = """usage: tfic backbones [WORD ...]

Networks for --backbone and backbones.create; with words, those whose names or aliases hold one.
KerasHub's presets are named hub:PRESET (pip install 'tf_image_classification[hub]').
"""


def main(arguments: Sequence[str]) -> int:
    """Print the list; returns 1 when nothing fits."""
    if cli_arguments.asks_for_help(arguments):
        print(USAGE, end="")
        return 0
    found = [
        backbone
        for backbone in map(backbones.find, backbones.names())
        if not arguments
        or any(w.lower() in n for w in arguments for n in (backbone.name, *backbone.aliases))
    ]
    if not found:
        text = f"No backbone is called like {' or '.join(arguments)}. tfic backbones lists them."
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
