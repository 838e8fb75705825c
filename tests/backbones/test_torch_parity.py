"""Weights of timm and torchvision give the logits that they give there; needs PyTorch."""

import numpy as np
import pytest

from tf_image_classification import backbones
from tf_image_classification.checkpoints.warm_start import warm_start

pytestmark = pytest.mark.exhaustive

EFFICIENTNETS = [f"efficientnet_b{i}" for i in range(8)]
REGNETS = ("002", "004", "008", "016", "032")
PAIRS = {
    **{f"resnet{depth}": f"resnet{depth}" for depth in (18, 34)},
    **{f"timm_resnet{depth}": f"resnet{depth}" for depth in (50, 101, 152)},
    **{f"regnet{kind}_{size}": f"regnet{kind}_{size}" for kind in "xy" for size in REGNETS},
    **{f"timm_tf_{name}": f"tf_{name}" for name in EFFICIENTNETS},
    **{f"timm_{name}": name for name in EFFICIENTNETS[:6]},
    "timm_efficientnet_b1": "efficientnet_b1.ft_in1k",  # others scale pixels to -1..1
    **{f"timm_{name}": name for name in ("mobilenetv2_100", "mobilenetv2_140")},
    **{
        f"timm_{tf}mobilenetv3_{size}_100": f"{tf}mobilenetv3_{size}_100"
        for tf in ("", "tf_")
        for size in ("small", "large")
    },
    **{f"timm_convnext_{size}": f"convnext_{size}" for size in ("tiny", "small", "base")},
    **{
        f"{kind}_{size}_patch16_224": f"{kind}_{size}_patch16_224"
        for kind in ("vit", "deit")
        for size in ("tiny", "small", "base")
    },
}
TORCHVISION_PAIRS = {
    **{f"torchvision_{name}": name for name in ("resnet18", "resnet34", "resnet50", "resnet101")},
    **{
        f"torchvision_regnet_{kind}_{size}": f"regnet_{kind}_{size}"
        for kind in "xy"
        for size in ("400mf", "800mf", "1_6gf", "3_2gf")
    },
    **{f"torchvision_{name}": name for name in EFFICIENTNETS},
    **{
        f"torchvision_{name}": name
        for name in ("mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large")
    },
    **{f"torchvision_convnext_{size}": f"convnext_{size}" for size in ("tiny", "small", "base")},
    **{name: name for name in ("vit_b_16", "vit_b_32")},
}
CASES = [
    *PAIRS.items(),
    *((ours, f"torchvision:{theirs}") for ours, theirs in TORCHVISION_PAIRS.items()),
]


def image_size(backbone):
    """Odd where the network permits it, so that paddings differ; small, because it is quick."""
    return backbone.image_size if backbone.network == "vit" else 75


def test_every_network_with_their_names_is_compared():
    compared = {backbones.find(ours).name for ours, _ in CASES}
    ours = {b.name for b in map(backbones.find, backbones.names()) if b.has_torch_names}
    assert compared == ours


@pytest.mark.parametrize(("ours", "theirs"), CASES)
def test_logits_are_theirs(ours, theirs, tmp_path, record_property):
    from safetensors.torch import save_file

    from backbones import torch_networks

    network = torch_networks.make(theirs)
    backbone = backbones.find(ours)
    size = image_size(backbone)
    images = np.random.default_rng(0).integers(0, 256, [2, size, size, 3]).astype(np.float32)
    expected = torch_networks.logits(network, images)
    torch_networks.torch.save(network.state_dict(), tmp_path / "weights.pth")
    save_file(network.state_dict(), tmp_path / "weights.safetensors")
    assert backbone.name in backbones.fitting(str(tmp_path / "weights.pth"))
    model = backbones.create(ours, (size, size, 3), outputs=1000)
    for name in ("weights.pth", "weights.safetensors"):
        for variable in model.variables:
            variable.assign(variable * 0)
        report = warm_start(model, str(tmp_path / name))
        assert not (report.initialised or report.mismatched or report.unused)
        found = model(images, training=False).numpy()
        difference = float(np.abs(found - expected).max())
        record_property("largest_difference", difference)
        print(f"{ours} {theirs} {name}: {difference:.1e}, deviation {expected.std():.2f}")
        assert difference < 1e-4
        assert expected.std() > 0.1 and np.abs(expected[0] - expected[1]).max() > 1e-2
