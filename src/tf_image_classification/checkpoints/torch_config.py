"""The ``config.json`` that timm stores beside weights: network, pixels, image size and crop.

read_config("resnet18.a1_in1k/model.safetensors").architecture    # "resnet18"
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from tf_image_classification.config import pixel_scaling_text, read_pixel_scaling
from tf_image_classification.errors import CheckpointError
from tf_image_classification.system import files


@dataclasses.dataclass(frozen=True)
class TorchConfig:
    """What the file states; "" or None where it states nothing.

    Attributes:
        architecture: the network's name in timm.
        pixel_scaling: the option's text.
        image_size: side of the square images of the training, in pixels.
        eval_crop: center-crop fraction at evaluation, per side.
    """

    architecture: str = ""
    pixel_scaling: str = ""
    image_size: int | None = None
    eval_crop: float | None = None


def read_config(path: str) -> TorchConfig:
    """The facts beside a PyTorch file; empty without a ``config.json``, and with another library's.

    Raises:
        CheckpointError: the ``config.json`` is damaged.
    """
    config_path = files.join(path.rpartition("/")[0] or ".", "config.json")
    if not files.exists(config_path):
        return TorchConfig()
    try:
        config = files.read_json(config_path)
        return _facts(config) if isinstance(config, Mapping) else TorchConfig()
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise CheckpointError(
            f"{config_path} beside the weights is damaged: {str(error).rstrip('.')}. Copy it again "
            "from where the weights are from, or remove it."
        ) from error


def _facts(config: Mapping[str, Any]) -> TorchConfig:
    trained = config.get("pretrained_cfg", config)  # older files have its keys at the top
    scaling, side, crop = "", None, None
    if "mean" in trained and "std" in trained:
        scaling = pixel_scaling_text(trained["mean"], trained["std"])
        read_pixel_scaling(scaling)
    _, *sides = trained.get("input_size") or (3,)
    if sides and len(set(sides)) == 1:
        side = int(sides[0])
    if trained.get("crop_mode", "center") == "center" and "crop_pct" in trained:
        crop = min(1.0, float(trained["crop_pct"]))
    return TorchConfig(str(config.get("architecture", "")), scaling, side, crop)
