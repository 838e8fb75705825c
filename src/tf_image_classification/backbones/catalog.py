"""The catalog of backbones with their properties; needs no TensorFlow.

``catalog.tsv`` beside this file is the list; ``scripts/measure_backbones.py`` fills its measured
columns.

    find("mobilenetv2_100").image_size
"""

from __future__ import annotations

import csv
import dataclasses
import functools
import importlib.resources
import re

from tf_image_classification.errors import ConfigError, did_you_mean

KERAS_HUB = "hub:"
"""Prefix of the name of a KerasHub preset."""

IMAGENET_SCALING = "0.485,0.456,0.406/0.229,0.224,0.225"
"""ImageNet's mean and standard deviation, as ``pixel_scaling``."""

_SCALINGS = {"torch": IMAGENET_SCALING, "unit": "0.5,0.5,0.5/0.5,0.5,0.5"}


@dataclasses.dataclass(frozen=True)
class Backbone:
    """A network without its classifier.

    Attributes:
        name: the name for ``create`` and ``--backbone``.
        aliases: further names, e.g. timm's.
        keras_class: the class or function of ``keras.applications``; "" for a network of this
            package.
        network: the builder of a network of this package (``building.NETWORKS``), or "".
        options: the arguments of the class or builder, e.g. alpha=0.5.
        image_size: published width and height in pixels.
        scaling: of pixels 0-255: "unit" to -1..1, "torch" by ImageNet's mean and standard
            deviation, "caffe" BGR minus the mean, "mean" RGB minus the mean, "lite" to
            (x - 127) / 128, or "own" inside the network.
        params: parameters, in millions, without classifier.
        gflops: floating-point operations (a multiply-add counts as two) for one image of
            ``image_size``, in thousand millions.
        top1: published ImageNet accuracy of one crop, in percent, or None.
        source: the source of that figure.
        weights_package: the package of pip that brings the ImageNet weights, or "".
    """

    name: str
    aliases: tuple[str, ...]
    keras_class: str
    network: str
    options: tuple[tuple[str, float], ...]
    image_size: int
    scaling: str
    params: float
    gflops: float
    top1: float | None
    source: str
    weights_package: str

    @property
    def has_imagenet_weights(self) -> bool:
        """Whether Keras or a package of pip has ImageNet weights."""
        return bool(self.keras_class or self.weights_package)

    @property
    def pixel_scaling(self) -> str:
        """The published mean/standard deviation, as the option's text; "" for another scaling."""
        return _SCALINGS.get(self.scaling, "")

    @property
    def has_torch_names(self) -> bool:
        """Whether the weights of timm or torchvision fit exactly."""
        return self.network not in ("", "slim_resnet", "efficientnet_lite")


def names() -> list[str]:
    """The names of all networks, sorted by family."""
    return list(_catalog())


def find(name: str) -> Backbone:
    """The backbone of a name or alias; case, ``-`` and ``_`` are ignored.

    Raises:
        ConfigError: the name is unknown; suggests similar names.

    Example:
        >>> find("MobileNetV2").name
        'mobilenet_v2'
    """
    known = _aliases()
    for wanted in (
        name,
        _plain(name),
        _without_timm_ending(name),
        _plain(_without_timm_ending(name)),
    ):
        if wanted in known:
            return _catalog()[known[wanted]]
    raise ConfigError(f"There is no backbone {name!r}. {did_you_mean(name, names())}")


@functools.cache
def _catalog() -> dict[str, Backbone]:
    text = importlib.resources.files(__package__).joinpath("catalog.tsv").read_text("utf-8")
    rows = csv.DictReader(text.splitlines(), delimiter="\t")
    return {row["name"]: _backbone(row) for row in rows}


def _backbone(row: dict[str, str]) -> Backbone:
    pairs = (option.split("=") for option in row["options"].split())
    return Backbone(
        name=row["name"],
        aliases=tuple(row["aliases"].split()),
        keras_class=row["keras_class"],
        network=row["network"],
        options=tuple((key, float(value) if "." in value else int(value)) for key, value in pairs),
        image_size=int(row["image_size"]),
        scaling=row["scaling"],
        params=float(row["params"] or 0),
        gflops=float(row["gflops"] or 0),
        top1=float(row["top1"]) if row["top1"] else None,
        source=row["source"],
        weights_package=row["weights_package"],
    )


@functools.cache
def _aliases() -> dict[str, str]:
    exact = {
        alias: backbone.name
        for backbone in _catalog().values()
        for alias in (backbone.name, *backbone.aliases)
    }
    return {_plain(alias): name for alias, name in exact.items()} | exact


def _plain(name: str) -> str:
    return re.sub(r"[-_ .]", "", name.lower())


def _without_timm_ending(name: str) -> str:
    """A timm name, e.g. tf_efficientnet_b0.in1k, without its prefix and its tag."""
    return name.partition(".")[0].removeprefix("tf_").removeprefix("keras_")
