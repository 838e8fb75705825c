"""Variable names of TF-Slim's checkpoints, from ``slim_names.tsv``; no TensorFlow."""

from __future__ import annotations

import importlib.resources
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy.typing as npt

from tf_image_classification.checkpoints.name_rows import NameMap, Row

_NUM_IMAGENET_CLASSES = 1000


def _without_background(value: npt.NDArray[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """Without the background class that Slim's ImageNet heads have before the thousand."""
    has_background = value.shape[-1] == _NUM_IMAGENET_CLASSES + 1
    return value[..., 1:] if has_background and shape[-1] == _NUM_IMAGENET_CLASSES else value


def _to_bgr(value: npt.NDArray[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """Keras's VGG has BGR input, Slim's RGB; a bias stays."""
    return value[:, :, ::-1] if value.ndim == 4 else value


_OPTIONS: dict[str, dict[str, Any]] = {
    "depthwise": {"words": {"kernel": "depthwise_weights"}},
    "background": {"change": _without_background},
    "bgr": {"change": _to_bgr},
}
_Line = tuple[str, str, str, str]


def _expanded(lines: Sequence[_Line], section: str) -> Iterator[tuple[str, str, Sequence[str]]]:
    """Layer, scope and options of each row of a section, those of its templates included."""
    for _, layer, scope, options in (line for line in lines if line[0] == section):
        if layer != "use":
            yield layer, scope, options.split(",")
            continue
        names, choices = zip(*(value.split("=") for value in options.split(" ")), strict=True)
        for values in zip(*(choice.split("|") for choice in choices), strict=True):
            for row in _expanded(lines, scope):
                filled = [_filled(text, dict(zip(names, values, strict=True))) for text in row[:2]]
                yield filled[0], filled[1], row[2]


def _filled(text: str, values: Mapping[str, str]) -> str:
    for name, value in values.items():
        text = text.replace(f"{{{name}}}", value)
    return text


def _slim_map(lines: Sequence[_Line], network: str) -> NameMap:
    """The map of one network in ``slim_names.tsv``."""
    rows, only_with = [], ""
    for ours, scope, options in _expanded(lines, network):
        if ours == "only_with":
            only_with = scope
            continue
        layer = ours or _below_root(scope).replace("/", "_")
        chosen = {k: v for option in options for k, v in _OPTIONS.get(option, {}).items()}
        rows.append(Row(layer, scope, **chosen))
        if "batch_norm" in options:
            rows.append(Row(f"{layer}_bn", f"{scope}/BatchNorm"))
    return NameMap(network, tuple(rows), only_with)


def _below_root(scope: str) -> str:
    return scope.partition("/")[2]


def _read_lines() -> list[_Line]:
    text = importlib.resources.files(__package__).joinpath("slim_names.tsv").read_text("utf-8")
    found = [line.split("\t") for line in text.splitlines() if not line.startswith("#")]
    return [(*line, *[""] * (4 - len(line))) for line in found]  # type: ignore[misc]


_LINES = _read_lines()

MAPS = tuple(
    _slim_map(_LINES, network)
    for network in dict.fromkeys(line[0] for line in _LINES if not line[0].startswith("<"))
)

INCEPTION_SCOPES = {
    network: [_below_root(scope) for layer, scope, _ in _expanded(_LINES, network) if not layer]
    for network in ("inception_v3", "inception_resnet_v2")
}
"""Scopes of the convolutions that Keras only numbers, in the order in which it makes them."""
