"""Networks of timm and torchvision with random weights, for comparison; needs PyTorch."""

import contextlib
import sys
import types

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")
with contextlib.ExitStack() as undo:
    # torchvision's operators need the build of torch that it was made for; its networks do not.
    for _name in ("_meta_registrations", "_autograd_registrations"):
        _whole = f"torchvision.{_name}"
        sys.modules.setdefault(_whole, types.ModuleType(_whole))
    torchvision = pytest.importorskip("torchvision")
    timm = pytest.importorskip("timm")

_IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
_TORCHVISION = "torchvision:"


def make(name):
    """A network of timm, or of torchvision with that in front, for inference."""
    if name.startswith(_TORCHVISION):
        network = getattr(torchvision.models, name.removeprefix(_TORCHVISION))(weights=None)
    else:
        network = timm.create_model(name)
    # Sums of many residuals that are not normalised grow, and rounding differences with them.
    gamma = 0.3 if "resnet" in name or "regnet" in name else 1.0
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for key, value in network.state_dict().items():
            if value.is_floating_point() and "running" not in key:
                value.copy_(_random(key, value, generator, gamma))
        _take_statistics(network, torch.randn((8, 3, 96, 96), generator=generator))
    return network.eval()


def _random(name, like, generator, gamma):
    """Weights of which every value matters; gamma is the mean factor of normalisations."""
    normal = torch.randn(like.shape, generator=generator)
    is_kernel = name.endswith("weight") and like.ndim > 1
    if is_kernel:
        return normal * (2 / like[0].numel()) ** 0.5
    return gamma + 0.2 * normal if name.endswith("weight") else 0.2 * normal


def _take_statistics(network, images):
    """Batch statistics of random images, so that the signal neither vanishes nor explodes."""
    norms = [m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    if norms:
        network.train()(images)
    for norm in norms:
        norm.running_var.clamp_(min=0.2)


def logits(network, images):
    """Its logits for pixels 0-255 [B, H, W, C], scaled as its configuration says."""
    config = getattr(network, "default_cfg", _IMAGENET)
    scaled = (images / 255 - np.array(config["mean"])) / np.array(config["std"])
    with torch.no_grad():
        return network(torch.tensor(scaled.transpose(0, 3, 1, 2).astype(np.float32))).numpy()
