r"""What the variables of our networks are called in TF-Slim's checkpoints; needs no TensorFlow.

A map is a table of rows, each from our layers to the scope that they have there. Further maps can
be registered:

    register(NameMap("my_net", (Row(r"block(\d+)_conv", r"MyNet/block_\1/conv"),)))
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy.typing as npt

from tf_image_classification.errors import ConfigError

Change = Callable[[npt.NDArray[Any], tuple[int, ...]], npt.NDArray[Any]]
"""A file's value, and the shape that is wanted, to the value in our network."""

_WORDS = {
    "kernel": "weights",
    "bias": "biases",
    "depthwise_kernel": "depthwise_weights",
    "pointwise_kernel": "pointwise_weights",
}
_NUM_IMAGENET_CLASSES = 1000

SEED_STATE = "seed_generator_state"
"""How the names end of what random layers keep; no weights, and in no checkpoint."""


@dataclasses.dataclass(frozen=True)
class Row:
    r"""Layers of ours and their scope in a checkpoint.

    Attributes:
        layer: regular expression for the layer's name.
        scope: the scope there, with the groups of the expression as ``\1``.
        words: what variables are called in that scope, where TF-Slim's usual words do not hold:
            ``weights`` for a kernel, ``biases`` for a bias.
        change: how a kernel or bias changes on the way, or None.
    """

    layer: str
    scope: str
    words: Mapping[str, str] = dataclasses.field(default_factory=dict)
    change: Change | None = None

    def fits(self, layer: str) -> re.Match[str] | None:
        """The match of a layer's name, or None."""
        return _compiled(self.layer).fullmatch(layer)

    def word(self, variable: str) -> str:
        """What a variable of such a layer is called there."""
        return self.words.get(variable) or _WORDS.get(variable, variable)


@functools.cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)


@dataclasses.dataclass(frozen=True)
class NameMap:
    """The names of one kind of checkpoint.

    Attributes:
        name: what to call it in messages.
        rows: its rows; a layer may fit several.
        only_with: a layer without which a network is another one, or "" for any.
    """

    name: str
    rows: tuple[Row, ...]
    only_with: str = ""


class OldName(NamedTuple):
    """A name of a variable in a checkpoint, and how its value changes on the way to us."""

    name: str
    change: Change | None


_MAPS: dict[str, NameMap] = {}


def register(name_map: NameMap) -> NameMap:
    """Add a map; its names count for every network whose layers its rows fit.

    Raises:
        ConfigError: there is a map of this name.
    """
    if name_map.name in _MAPS:
        raise ConfigError(f"There is a name map {name_map.name!r} already.")
    _MAPS[name_map.name] = name_map
    return name_map


def old_names(paths: Iterable[str]) -> dict[str, tuple[OldName, ...]]:
    """What each variable of a network may be called in a checkpoint.

    Args:
        paths: the paths of all its variables.

    Example:
        >>> old_names(["conv1/kernel", "conv_dw_1/kernel"])["conv1/kernel"][0].name
        'MobilenetV1/Conv2d_0/weights'
    """
    split = {path: path.split("/")[-2:] for path in paths if "/" in path}
    layers = {layer for layer, _ in split.values()}
    rows = [
        row
        for name_map in _MAPS.values()
        if not name_map.only_with or name_map.only_with in layers
        for row in name_map.rows
    ]
    found: dict[str, tuple[OldName, ...]] = {}
    of_layer = {layer: [(r, m) for r in rows if (m := r.fits(layer))] for layer in layers}
    for path, (layer, variable) in split.items():
        found[path] = tuple(
            OldName(f"{match.expand(row.scope)}/{row.word(variable)}", row.change)
            for row, match in of_layer[layer]
        )
    return found


def _without_background(value: npt.NDArray[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """Slim's ImageNet heads have a background class before the thousand."""
    has_background = value.shape[-1] == _NUM_IMAGENET_CLASSES + 1
    return value[..., 1:] if has_background and shape[-1] == _NUM_IMAGENET_CLASSES else value


def _to_bgr(value: npt.NDArray[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """Keras's VGG sees blue first, Slim's red; a bias stays."""
    return value[:, :, ::-1] if value.ndim == 4 else value


def _head(scope: str) -> Row:
    return Row("logits|predictions|conv_preds", scope, change=_without_background)


def _with_norm(layer: str, scope: str, words: Mapping[str, str] = _WORDS) -> list[Row]:
    return [Row(layer, scope, words), Row(f"{layer}_bn", f"{scope}/BatchNorm")]


_DEPTHWISE = {"kernel": "depthwise_weights"}

register(
    NameMap(
        "mobilenet_v1",
        (
            *_with_norm("conv1", "MobilenetV1/Conv2d_0"),
            *_with_norm(r"conv_dw_(\d+)", r"MobilenetV1/Conv2d_\1_depthwise", _DEPTHWISE),
            *_with_norm(r"conv_pw_(\d+)", r"MobilenetV1/Conv2d_\1_pointwise"),
            _head("MobilenetV1/Logits/Conv2d_1c_1x1"),
        ),
        only_with="conv_dw_1",
    )
)

_V2 = "MobilenetV2"
register(
    NameMap(
        "mobilenet_v2",
        (
            Row("Conv1", f"{_V2}/Conv"),
            Row("bn_Conv1", f"{_V2}/Conv/BatchNorm"),
            Row("Conv_1", f"{_V2}/Conv_1"),
            Row("Conv_1_bn", f"{_V2}/Conv_1/BatchNorm"),
            Row("expanded_conv_depthwise", f"{_V2}/expanded_conv/depthwise", _DEPTHWISE),
            Row("expanded_conv_depthwise_BN", f"{_V2}/expanded_conv/depthwise/BatchNorm"),
            Row("expanded_conv_project", f"{_V2}/expanded_conv/project"),
            Row("expanded_conv_project_BN", f"{_V2}/expanded_conv/project/BatchNorm"),
            Row(r"block_(\d+)_depthwise", rf"{_V2}/expanded_conv_\1/depthwise", _DEPTHWISE),
            Row(r"block_(\d+)_(expand|project)", rf"{_V2}/expanded_conv_\1/\2"),
            Row(
                r"block_(\d+)_(expand|depthwise|project)_BN",
                rf"{_V2}/expanded_conv_\1/\2/BatchNorm",
            ),
            _head(f"{_V2}/Logits/Conv2d_1c_1x1"),
        ),
        only_with="expanded_conv_depthwise",
    )
)

for _depth in (16, 19):
    register(
        NameMap(
            f"vgg_{_depth}",
            (
                Row("block1_conv1", f"vgg_{_depth}/conv1/conv1_1", change=_to_bgr),
                Row(r"block1_conv2", f"vgg_{_depth}/conv1/conv1_2"),
                Row(r"block([2-5])_conv(\d)", rf"vgg_{_depth}/conv\1/conv\1_\2"),
                _head(f"vgg_{_depth}/fc8"),
            ),
            only_with="block3_conv4" if _depth == 19 else "block3_conv3",
        )
    )

for _root in (f"resnet_v{version}_{depth}" for version in (1, 2) for depth in (50, 101, 152)):
    _unit = rf"{_root}/block\1/unit_\2/bottleneck_v{_root[8]}"
    register(
        NameMap(
            _root,
            (
                *_with_norm(f"{_root}_conv1", f"{_root}/conv1"),
                *_with_norm(rf"{_root}_block(\d)_unit_(\d+)_(shortcut|conv\d)", rf"{_unit}/\3"),
                Row(rf"{_root}_block(\d)_unit_(\d+)_preact", rf"{_unit}/preact"),
                Row(f"{_root}_postnorm", f"{_root}/postnorm"),
                _head(f"{_root}/logits"),
            ),
            only_with=f"{_root}_conv1",
        )
    )


def _inception_scopes(block: str, branches: Sequence[str]) -> list[str]:
    """Scopes of a block's convolutions, branch by branch; spaces separate those of one."""
    return [
        f"{block}/Branch_{number}/{part}"
        for number, parts in enumerate(branches)
        for part in parts.split()
    ]


_STEM = ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "Conv2d_3b_1x1", "Conv2d_4a_3x3")
_DOUBLE_3X3 = "Conv2d_0a_1x1 Conv2d_0b_3x3 Conv2d_0c_3x3"
_5X5 = "Conv2d_0a_1x1 Conv2d_0b_5x5"
_POOL = "Conv2d_0b_1x1"
_7X7 = "Conv2d_0a_1x1 Conv2d_0b_1x7 Conv2d_0c_7x1"
_DOUBLE_7X7 = "Conv2d_0a_1x1 Conv2d_0b_7x1 Conv2d_0c_1x7 Conv2d_0d_7x1 Conv2d_0e_1x7"
_SPLIT = "Conv2d_0a_1x1 Conv2d_0b_3x3 Conv2d_0c_1x3 Conv2d_0d_3x1"

# In the order in which Keras makes them. Some names do not say what they are; they are Slim's own.
_INCEPTION_V3 = [
    *_STEM,
    *_inception_scopes("Mixed_5b", ("Conv2d_0a_1x1", _5X5, _DOUBLE_3X3, _POOL)),
    *_inception_scopes(
        "Mixed_5c", ("Conv2d_0a_1x1", "Conv2d_0b_1x1 Conv_1_0c_5x5", _DOUBLE_3X3, _POOL)
    ),
    *_inception_scopes("Mixed_5d", ("Conv2d_0a_1x1", _5X5, _DOUBLE_3X3, _POOL)),
    *_inception_scopes("Mixed_6a", ("Conv2d_1a_1x1", "Conv2d_0a_1x1 Conv2d_0b_3x3 Conv2d_1a_1x1")),
    *(
        scope
        for block in "bcde"
        for scope in _inception_scopes(
            f"Mixed_6{block}", ("Conv2d_0a_1x1", _7X7, _DOUBLE_7X7, _POOL)
        )
    ),
    *_inception_scopes("Mixed_7a", ("Conv2d_0a_1x1 Conv2d_1a_3x3", f"{_7X7} Conv2d_1a_3x3")),
    *_inception_scopes(
        "Mixed_7b",
        ("Conv2d_0a_1x1", "Conv2d_0a_1x1 Conv2d_0b_1x3 Conv2d_0b_3x1", _SPLIT, _POOL),
    ),
    *_inception_scopes(
        "Mixed_7c",
        ("Conv2d_0a_1x1", "Conv2d_0a_1x1 Conv2d_0b_1x3 Conv2d_0c_3x1", _SPLIT, _POOL),
    ),
]

_INCEPTION_RESNET_V2 = [
    *_STEM,
    *_inception_scopes("Mixed_5b", ("Conv2d_1x1", _5X5, _DOUBLE_3X3, _POOL)),
    *(
        scope
        for number in range(1, 11)
        for scope in _inception_scopes(
            f"Repeat/block35_{number}",
            ("Conv2d_1x1", "Conv2d_0a_1x1 Conv2d_0b_3x3", _DOUBLE_3X3),
        )
    ),
    *_inception_scopes("Mixed_6a", ("Conv2d_1a_3x3", "Conv2d_0a_1x1 Conv2d_0b_3x3 Conv2d_1a_3x3")),
    *(
        scope
        for number in range(1, 21)
        for scope in _inception_scopes(f"Repeat_1/block17_{number}", ("Conv2d_1x1", _7X7))
    ),
    *_inception_scopes(
        "Mixed_7a",
        (
            "Conv2d_0a_1x1 Conv2d_1a_3x3",
            "Conv2d_0a_1x1 Conv2d_1a_3x3",
            "Conv2d_0a_1x1 Conv2d_0b_3x3 Conv2d_1a_3x3",
        ),
    ),
    *(
        scope
        for block in (*(f"Repeat_2/block8_{number}" for number in range(1, 10)), "Block8")
        for scope in _inception_scopes(
            block, ("Conv2d_1x1", "Conv2d_0a_1x1 Conv2d_0b_1x3 Conv2d_0c_3x1")
        )
    ),
]

INCEPTION_SCOPES = {"inception_v3": _INCEPTION_V3, "inception_resnet_v2": _INCEPTION_RESNET_V2}
"""Scopes of the convolutions that Keras only numbers, in the order in which it makes them."""


def _scope_rows(root: str, scopes: Sequence[str]) -> list[Row]:
    return [
        row
        for scope in scopes
        for row in _with_norm(re.escape(scope.replace("/", "_")), f"{root}/{scope}")
    ]


register(
    NameMap(
        "inception_v3",
        (*_scope_rows("InceptionV3", _INCEPTION_V3), _head("InceptionV3/Logits/Conv2d_1c_1x1")),
        only_with="Mixed_5c_Branch_1_Conv_1_0c_5x5",
    )
)

_IR2 = "InceptionResnetV2"
register(
    NameMap(
        "inception_resnet_v2",
        (
            *_scope_rows(_IR2, _INCEPTION_RESNET_V2),
            Row(r"block35_(\d+)_conv", rf"{_IR2}/Repeat/block35_\1/Conv2d_1x1"),
            Row(r"block17_(\d+)_conv", rf"{_IR2}/Repeat_1/block17_\1/Conv2d_1x1"),
            Row(r"block8_([1-9])_conv", rf"{_IR2}/Repeat_2/block8_\1/Conv2d_1x1"),
            Row("block8_10_conv", f"{_IR2}/Block8/Conv2d_1x1"),
            *_with_norm("conv_7b", f"{_IR2}/Conv2d_7b_1x1"),
            _head(f"{_IR2}/Logits/Logits"),
        ),
        only_with="conv_7b",
    )
)


def _nasnet_cell(ours: str, cell: str, kind: str) -> list[Row]:
    """Rows of a cell of NASNet-A (arXiv 1707.07012, figure 4)."""
    sizes = {
        "normal": {"left1": 5, "right1": 3, "left2": 5, "right2": 3, "left5": 3},
        # Keras calls the fifth pair's left side left4 here.
        "reduction": {"left1": 5, "right1": 7, "right2": 7, "right3": 5, "left4": 3},
    }[kind]
    rows = [
        Row(f"{kind}_conv_1_{ours}", f"{cell}/1x1"),
        Row(f"{kind}_bn_1_{ours}", f"{cell}/beginning_bn"),
        Row(f"adjust_conv_projection_{ours}", f"{cell}/prev_1x1"),
        Row(rf"adjust_conv_([12])_{ours}", rf"{cell}/path\1_conv"),
        Row(f"adjust_bn_{ours}", f"{cell}/prev_bn"),
        Row(f"adjust_bn_{ours}", f"{cell}/final_path_bn"),
    ]
    for branch, size in sizes.items():
        side, number = branch[:-1], int(branch[-1]) - 1 + (branch == "left4")
        there = f"{cell}/comb_iter_{number}/{side}"
        kernel = f"{size}x{size}"
        rows += [
            Row(
                rf"separable_conv_([12])_{kind}_{branch}_{ours}", rf"{there}/separable_{kernel}_\1"
            ),
            Row(
                rf"separable_conv_([12])_bn_{kind}_{branch}_{ours}", rf"{there}/bn_sep_{kernel}_\1"
            ),
        ]
    return rows


for _size, _cells in (("mobile", 4), ("large", 6)):
    register(
        NameMap(
            f"nasnet_{_size}",
            (
                Row("stem_conv1", "conv0"),
                Row("stem_bn1", "conv0_bn"),
                *(
                    row
                    for number in (1, 2)
                    for row in [
                        *_nasnet_cell(f"stem_{number}", f"cell_stem_{number - 1}", "reduction"),
                        *_nasnet_cell(
                            f"reduce_{number * _cells}", f"reduction_cell_{number - 1}", "reduction"
                        ),
                    ]
                ),
                # Keras counts on over each reduction cell but the last.
                *(
                    row
                    for number in range(3 * _cells)
                    for row in _nasnet_cell(
                        str(number + (number >= _cells)), f"cell_{number}", "normal"
                    )
                ),
                _head("final_layer/FC"),
            ),
            only_with=f"reduction_conv_1_reduce_{_cells}",
        )
    )
