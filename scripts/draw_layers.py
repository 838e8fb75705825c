"""Draw the layers of the package, which pyproject.toml lists, and the way of an image.

python scripts/draw_layers.py
"""

from __future__ import annotations

import pathlib
import re

ROOT = pathlib.Path(__file__).parents[1]
IMAGES = ROOT / "docs" / "images"

STAGES = (
    ("dataset/readers", "one listing", "of any source"),
    ("pipeline/sampler", "global index", "to example"),
    ("pipeline", "decode, preprocess,", "slices of a batch"),
    ("training/step", "forward, backward,", "sum, clip, update"),
    ("training/loop", "evaluate, then", "save a checkpoint"),
    ("export", "model files,", "compared first"),
    ("serving", "predict", "and serve"),
)
"""The way of an image through the package: module, and what happens there."""

GROUPS = {
    "what people call": ("__main__", "cli", "train_estimator", "utils", "classifier"),
    "tasks and pages": ("workflows", "report"),
    "engines": (
        *("cloud", "serving", "inspection", "export", "training", "evaluation", "conversion"),
        "features",
    ),
    "what people write": ("backbone_spec", "hooks", "estimator_specs"),
    "parts": ("dataset", "backbones", "optim", "metrics", "checkpoints", "distributed"),
    "a run and its folder": (
        "model_folder",
        "model_outputs",
        "fused_batch_norm",
        "run_manifest",
        "compiled_gradients",
    ),
    "words": ("config", "labels", "batches", "keras_settings", "layer_calls", "tf1_code", "pages"),
    "machine": ("system", "errors"),
}
"""Each band of the drawing and its modules, from high to low."""

WIDTH, LEFT, GAP, HEIGHT = 960, 160, 8, 30


def layers() -> list[list[str]]:
    """The layers of import-linter's contract, from high to low."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    block = re.search(r"^layers = \[\n(.*?)^\]", text, re.DOTALL | re.MULTILINE)
    assert block is not None
    return [line.split(" | ") for line in re.findall(r'"(.+)"', block[1])]


def drawing_of_layers() -> str:
    """The SVG of the layers."""
    band_of = {name: band for band, names in GROUPS.items() for name in names}
    parts, top, band_top, band = [], 20, 20, ""
    for layer in layers():
        if band_of[layer[0]] != band:
            top += 12 if band else 0
            band, band_top = band_of[layer[0]], top
            middle = band_top + HEIGHT / 2
            parts.append(f'<text class="band" x="10" y="{middle + 5:g}">{band}</text>')
        width = (WIDTH - LEFT - 10 - GAP * (len(layer) - 1)) / len(layer)
        for i, name in enumerate(layer):
            x = LEFT + i * (width + GAP)
            parts.append(f'<rect x="{x:.1f}" y="{top}" width="{width:.1f}" height="{HEIGHT}"/>')
            parts.append(f'<text x="{x + width / 2:.1f}" y="{top + 20}">{name}</text>')
        top += HEIGHT + GAP
    return svg("Layers of the package: each imports those below it", top + 12, parts)


def way_of_an_image() -> str:
    """The SVG of the stages, from left to right."""
    width = (WIDTH - 20 - 14 * (len(STAGES) - 1)) / len(STAGES)
    parts = []
    for i, (module, *lines) in enumerate(STAGES):
        x = 10 + i * (width + 14)
        parts.append(f'<rect x="{x:.1f}" y="14" width="{width:.1f}" height="74"/>')
        parts.append(f'<text class="module" x="{x + width / 2:.1f}" y="36">{module}</text>')
        for number, line in enumerate(lines):
            y = 58 + 17 * number
            parts.append(f'<text class="small" x="{x + width / 2:.1f}" y="{y}">{line}</text>')
        if i:
            parts.append(f'<path d="M{x - 13:.1f} 51 h8 m-4 -4 l4 4 l-4 4"/>')
    return svg("The way of an image, from its file to a prediction", 102, parts)


def svg(title: str, height: int, parts: list[str]) -> str:
    """A drawing whose colours follow the reader's light or dark scheme."""
    style = (
        "svg { background: #fff } "
        "text { font: 13px system-ui, sans-serif; text-anchor: middle; fill: #222 } "
        ".band { text-anchor: start; font-weight: 600 } "
        ".module { font-weight: 600; font-size: 12.5px } .small { font-size: 11.5px } "
        "path { fill: none; stroke: #8aa4c8; stroke-width: 1.5 } "
        "rect { fill: #e8eef7; stroke: #8aa4c8; rx: 4 } "
        "@media (prefers-color-scheme: dark) { svg { background: #14171c } text { fill: #ddd } "
        "rect { fill: #24324a; stroke: #5b79a6 } }"
    )
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">\n'
        f"<title>{title}</title>\n"
        f"<style>{style}</style>\n{body}\n</svg>\n"
    )


if __name__ == "__main__":
    (IMAGES / "layers.svg").write_text(drawing_of_layers(), encoding="utf-8")
    (IMAGES / "way-of-an-image.svg").write_text(way_of_an_image(), encoding="utf-8")
