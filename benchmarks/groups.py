"""Groups that are found by themselves: true ones, false ones, and what a split by them is worth.

    python benchmarks/groups.py found --seeds 5           # drawn videos, in several layouts
    python benchmarks/groups.py false trashnet cifar10    # photographs: no group is expected
    python benchmarks/groups.py split --seeds 8           # naive and grouped split, new videos

The videos are drawn: an object of its class moves over a background of its own, the camera moves,
and the light changes.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

Pixels = npt.NDArray[np.uint8]
CLASSES = ("circle", "square", "triangle", "cross")
LAYOUTS = ("numbered", "prefixed", "folders", "named")
SIDE = 96
_MARGIN = 24  # pixels that the camera can move


def draw_video(
    kind: str, seed: int, num_frames: int = 20, *, side: int = SIDE, pace: float = 1.0
) -> list[Pixels]:
    """The frames of a video of one class, uint8 [side, side, 3]; all motion is times the pace."""
    random = np.random.default_rng(seed)
    world = _background(random, side + 2 * _MARGIN)
    colour = tuple(int(v) for v in random.integers(60, 256, 3))
    size, turn = random.uniform(0.08, 0.14) * side, random.uniform(0, 2 * np.pi)
    at, speed = random.uniform(0.3, 0.7, 2) * side, random.normal(0, 0.012, 2) * side
    camera, drift = np.zeros(2), random.normal(0, 0.8, 2)
    light, change = random.uniform(0.8, 1.2), random.normal(0, 0.012)
    frames = []
    for _ in range(num_frames):
        camera = np.clip(camera + pace * (drift + random.normal(0, 0.6, 2)), -_MARGIN, _MARGIN)
        at = np.clip(at + pace * (speed + random.normal(0, 0.5, 2)), 0.15 * side, 0.85 * side)
        turn, light = turn + random.normal(0.04, 0.02), light + change
        left, top = (round(_MARGIN + float(c)) for c in camera)
        picture = Image.fromarray(world[top : top + side, left : left + side])
        _draw(ImageDraw.Draw(picture), kind, at, size, turn, colour)
        noisy = light * np.asarray(picture, float) + random.normal(0, 3, [side, side, 3])
        frames.append(np.clip(noisy, 0, 255).astype(np.uint8))
    return frames


def _background(random: np.random.Generator, side: int) -> Pixels:
    """Soft patches of a few colours, with coarse and fine detail."""
    total = np.zeros([side, side, 3])
    for cells, weight in ((4, 1.0), (9, 0.6), (24, 0.35)):
        coarse = Image.fromarray(random.integers(0, 256, [cells, cells, 3], np.uint8))
        total += weight * np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC), float)
    return np.clip(total / 1.95, 0, 255).astype(np.uint8)


def _draw(canvas: Any, kind: str, at: Any, size: float, turn: float, colour: Any) -> None:
    x, y = at
    if kind == "circle":
        canvas.ellipse((x - size, y - size, x + size, y + size), fill=colour)
        return
    corners = {"square": 4, "triangle": 3}.get(kind)
    if corners:
        angles = turn + 2 * np.pi * np.arange(corners) / corners
        canvas.polygon([(x + size * np.cos(a), y + size * np.sin(a)) for a in angles], fill=colour)
        return
    for angle in (turn, turn + np.pi / 2):
        dx, dy = size * np.cos(angle), size * np.sin(angle)
        canvas.line((x - dx, y - dy, x + dx, y + dy), fill=colour, width=max(2, int(size / 2)))


def name_of(layout: str, kind: str, video: int, frame: int, num_frames: int) -> str:
    """The name of a frame in a layout."""
    return {
        "numbered": f"{kind}/{1 + video * num_frames + frame:06d}.jpg",
        "prefixed": f"{kind}/site{chr(65 + video)}-{frame:06d}.jpg",
        "folders": f"{kind}/video{video}/{frame:04d}.jpg",
        "named": f"{kind}/clip{video:02d}_frame_{frame:04d}.jpg",
    }[layout]


def write_videos(
    folder: str, layout: str, *, seed: int, num_videos: int, num_frames: int, pace: float = 1.0
) -> dict[str, str]:
    """Write drawn videos of each class; returns the video of each name."""
    videos = {}
    for k, kind in enumerate(CLASSES):
        for video in range(num_videos):
            frames = draw_video(kind, 10_000 * seed + 100 * k + video, num_frames, pace=pace)
            for i, pixels in enumerate(frames):
                name = name_of(layout, kind, video, i, num_frames)
                path = os.path.join(folder, name)
                os.makedirs(os.path.dirname(path), exist_ok=True)
                Image.fromarray(pixels).save(path, quality=90)
                videos[name] = f"{kind}-{video}"
    return videos


def listing_of(folder: str) -> Any:
    """The listing of a folder."""
    from tf_image_classification.dataset.readers import find_examples

    return find_examples([folder], option="source")


def agreement(of: Sequence[str], videos: Sequence[str]) -> tuple[float, float]:
    """Of pairs of one video, the fraction in one group; of pairs in a group, that of two videos."""
    _, group = np.unique([g or f"alone {i}" for i, g in enumerate(of)], return_inverse=True)
    _, video = np.unique(videos, return_inverse=True)
    upper = np.triu(np.ones([len(group)] * 2, bool), 1)
    together = (group[:, None] == group[None]) & upper
    true = (video[:, None] == video[None]) & upper
    found = float((together & true).sum() / max(true.sum(), 1))
    return found, float((together & ~true).sum() / max(together.sum(), 1))


def print_found(seeds: int) -> None:
    """How many pairs of frames of drawn videos are found, by layout."""
    from tf_image_classification.inspection.listing_groups import groups_of_listing

    print("pairs of frames, mean over seeds (worst seed): of one video and in one group, of those")
    print("in one group of two videos")
    shapes = itertools.product(LAYOUTS, ((2, 40), (5, 20), (10, 6)), (1.0, 4.0))
    for layout, (num_videos, num_frames), pace in shapes:
        rows = []
        for seed in range(seeds):
            with tempfile.TemporaryDirectory() as folder:
                size = {"num_videos": num_videos, "num_frames": num_frames}
                videos = write_videos(folder, layout, seed=seed, pace=pace, **size)
                listing = listing_of(folder)
                groups = groups_of_listing(listing, _classes(listing))
                rows.append(agreement(groups.of, [videos[n] for n in listing.names]))
        found, false = np.array(rows).T
        print(
            f"{layout:9} {num_videos:2} videos a class, {num_frames:2} frames, pace {pace:g}: "
            f"{found.mean():.3f} ({found.min():.3f}), {false.mean():.3f} ({false.max():.3f})",
            flush=True,
        )


def _classes(listing: Any) -> list[str]:
    return [str(value) for value in listing.columns["label"]]


def print_false(sources: Sequence[str]) -> None:
    """The videos and bursts found in folders of photographs."""
    from tf_image_classification.inspection.listing_groups import groups_of_listing

    for source in sources:
        listing = listing_of(source)
        groups = groups_of_listing(listing, _classes(listing))
        wrong = sum(map(len, groups.takes()))
        print(f"{os.path.basename(source)}: {wrong} of {len(listing)} images in videos or bursts")


def print_split(seeds: int) -> None:
    """Held-out accuracy of a naive and a grouped split, and accuracy on new videos."""
    from tf_image_classification.config import make_settings
    from tf_image_classification.workflows.setup.held_out import hold_out_of

    rows = []
    for seed in range(seeds):
        with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as new:
            write_videos(folder, "numbered", seed=seed, num_videos=8, num_frames=12)
            write_videos(new, "numbered", seed=1000 + seed, num_videos=8, num_frames=12)
            features, labels = _features(folder)
            on_new = _features(new)
            row = []
            for groups in ("none", "auto"):
                settings = make_settings(
                    {"train_metadata": [folder], "model_dir": os.path.join(folder, "no"),
                     "eval_split": 0.25, "groups": groups}
                )  # fmt: skip
                held = hold_out_of(listing_of(folder), settings)
                is_held = np.array([own in held.held for own in held.ids])
                model = _fitted(features[~is_held], labels[~is_held])
                row += [model.score(features[is_held], labels[is_held]), model.score(*on_new)]
            rows.append(row)
            print(f"seed {seed}: " + ", ".join(f"{v:.3f}" for v in row), file=sys.stderr)
    table = np.array(rows)
    names = ("naive split", "new videos", "grouped split", "new videos")
    for name, values in zip(names, table.T, strict=True):
        low, high = _interval(values)
        print(f"{name:14} accuracy {values.mean():.3f} (95 % CI {low:.3f}-{high:.3f})")
    for name, columns in (("naive", (0, 1)), ("grouped", (2, 3))):
        gap = table[:, columns[0]] - table[:, columns[1]]
        low, high = _interval(gap)
        print(
            f"{name} split minus new videos: {gap.mean():+.3f} (95 % CI {low:+.3f} to {high:+.3f})"
        )


def _features(folder: str) -> tuple[Any, Any]:
    from tf_image_classification.features.backbone import backbone_features

    listing = listing_of(folder)
    return backbone_features(listing, cache_dir="").values, np.array(_classes(listing))


def _fitted(features: Any, labels: Any) -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(C=1e-2, max_iter=300)).fit(
        features, labels
    )


def _interval(values: Any) -> tuple[float, float]:
    """The 95 % interval of a mean over seeds, by Student's t."""
    from scipy import stats

    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5
    return values.mean() - half, values.mean() + half


def main() -> None:
    """Print the chosen figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("found", "false", "split"))
    parser.add_argument("sources", nargs="*", help="of false: folders of class folders")
    parser.add_argument("--seeds", type=int, default=5)
    given = parser.parse_args()
    {"found": lambda: print_found(given.seeds), "split": lambda: print_split(given.seeds),
     "false": lambda: print_false(given.sources)}[given.what]()  # fmt: skip


if __name__ == "__main__":
    main()
