"""Frames of one video and bursts are one group; photographs that are numbered are not."""

import runpy
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tf_image_classification.dataset.readers import find_examples
from tf_image_classification.inspection.example_groups import (
    BURST,
    COLUMN,
    FRAMES,
    SAME,
    Trace,
    find_groups,
)
from tf_image_classification.inspection.listing_groups import groups_of_listing

VIDEOS = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "groups.py"))


def small(pixels):
    return np.asarray(Image.fromarray(pixels).convert("L").resize((32, 32))).ravel()


@pytest.fixture(scope="module")
def frames():
    """The frames of eight videos, each [frame] of small grey images."""
    return [[small(f) for f in VIDEOS["draw_video"]("circle", seed, 6)] for seed in range(8)]


def traces_of(frames, layout="numbered"):
    videos, traces = [], []
    for video, some in enumerate(frames):
        for i, pixels in enumerate(some):
            traces.append(Trace(VIDEOS["name_of"](layout, "circle", video, i, 6), pixels))
            videos.append(str(video))
    return traces, videos


@pytest.mark.parametrize("layout", VIDEOS["LAYOUTS"])
def test_frames_of_a_video_are_one_group(frames, layout):
    traces, videos = traces_of(frames, layout)
    order = np.random.default_rng(0).permutation(len(traces))  # that of the listing is no help
    groups = find_groups([traces[i] for i in order], ["circle"] * len(traces))
    found, false = VIDEOS["agreement"](groups.of, [videos[i] for i in order])
    assert found == 1.0 and false <= 0.3
    assert set(groups.reasons.values()) == {(FRAMES,)}
    assert "48 images in" in groups.summary() and "video" in groups.summary()


def test_numbered_photographs_are_no_group(frames):
    first = [some[0] for some in frames]
    random = np.random.default_rng(0)
    others = [random.integers(0, 256, 1024).astype(np.uint8) for _ in range(200)]
    traces = [Trace(f"glass/glass{i}.jpg", s) for i, s in enumerate([*first, *others])]
    assert not any(find_groups(traces, ["glass"] * len(traces)).of)


def test_a_sequence_of_unrelated_images_is_taken_for_a_video_as_rarely_as_stated():
    """Alike or not: the ranks of unrelated images are uniform, so their test has its level."""
    random = np.random.default_rng(1)
    false = 0
    for _ in range(60):
        base = random.integers(0, 256, 1024)  # all images of the class look much the same
        images = np.clip(base + random.normal(0, 40, [40, 1024]), 0, 255).astype(np.uint8)
        traces = [Trace(f"a/{i:04d}.jpg", image) for i, image in enumerate(images)]
        false += any(find_groups(traces, ["a"] * 40).of)
    assert false == 0


def test_a_class_of_one_video_is_divided_all_the_same():
    named = [Trace(f"a/clip1_frame_{i}.jpg") for i in range(9)]
    others = [Trace(f"b/clip{i // 3}_frame_{i}.jpg") for i in range(9)]
    groups = find_groups([*named, *others], ["a"] * 9 + ["b"] * 9)
    assert groups.lifted == ("a",) and not any(groups.of[:9])
    assert [len(m) for m in groups.found(FRAMES)] == [3, 3, 3]


def test_bursts_are_of_one_camera_within_seconds_and_alike(frames):
    photographs = [some[0] for some in frames] + [
        np.random.default_rng(i).integers(0, 256, 1024).astype(np.uint8) for i in range(30)
    ]
    at = 100.0 * np.arange(len(photographs))
    traces = [
        Trace(f"{chr(97 + i % 26)}{i}.jpg", s, "Canon", t)
        for i, (s, t) in enumerate(zip(photographs, at, strict=True))
    ]
    burst = [Trace(f"x{k}.jpg", frames[0][k], "Canon", 0.5 * k) for k in range(1, 5)]
    other = [
        Trace("y.jpg", frames[0][5], "Nikon", 0.2),
        Trace("z.jpg", frames[0][5], "Canon", 50.0),
    ]
    everything = [*traces, *burst, *other]
    groups = find_groups(everything, ["c"] * len(everything))
    [members] = groups.found(BURST)
    assert sorted(everything[i].name for i in members) == [
        "a0.jpg",
        *(f"x{k}.jpg" for k in range(1, 5)),
    ]
    assert not groups.of[-1] and not groups.of[-2]


def test_times_that_are_not_those_of_photographs_make_no_bursts():
    random = np.random.default_rng(0)
    traces = [
        Trace(f"{i}x.jpg", random.integers(0, 256, 1024).astype(np.uint8), "", 5.0)
        for i in range(100)
    ]
    assert not any(find_groups(traces, [""] * 100).of)


def test_a_column_decides_where_it_has_a_value():
    traces = [Trace(f"a/clip{i // 2}_frame_{i}.jpg") for i in range(8)]
    values = ["p", "", "p", "q", "q", "", "", ""]
    groups = find_groups(traces, ["a"] * 8, same=[[4, 7]], values=values)
    members = sorted(map(sorted, groups.members().values()))
    assert members == [[0, 2], [3, 4, 6, 7]]
    reasons = groups.reasons[groups.of[3]]
    assert COLUMN in reasons and SAME in reasons


def test_the_exif_data_of_files_are_read(tmp_path):
    random = np.random.default_rng(0)
    for i in range(30):
        pixels = random.integers(0, 256, [6, 6, 3], np.uint8)
        picture = Image.fromarray(pixels).resize((64, 64), Image.Resampling.BICUBIC)
        picture = Image.fromarray(np.asarray(picture))
        for part in range(2):
            exif = Image.Exif()
            exif[271], exif[272] = "Canon", "EOS"
            exif.get_ifd(0x8769)[0x9003] = f"2024:01:02 10:{i:02d}:0{part}"
            shifted = Image.fromarray(np.roll(np.asarray(picture), 3 * part, axis=1))
            path = tmp_path / ("ant", "bee")[i % 2] / f"{random.integers(10**9)}.jpg"
            path.parent.mkdir(exist_ok=True)
            shifted.save(path, exif=exif)
    listing = find_examples([str(tmp_path)], option="source")
    groups = groups_of_listing(listing, [str(v) for v in listing.columns["label"]])
    assert len(groups.found(BURST)) == 30 and all(len(m) == 2 for m in groups.found(BURST))


def test_time_stamps_in_names_make_bursts_within_a_folder(frames):
    random = np.random.default_rng(0)
    others = [random.integers(0, 256, 1024).astype(np.uint8) for _ in range(40)]
    traces = [Trace(f"{'ab'[i % 2]}/x{i}q.jpg", s) for i, s in enumerate(others)]
    for k, folder in enumerate("ab"):  # at the same second in both
        traces += [Trace(f"{folder}/PXL_20240302_1010101{i}0.jpg", frames[k][i]) for i in range(3)]
    groups = find_groups(traces, [trace.name[0] for trace in traces])
    assert [len(members) for members in groups.takes()] == [3, 3]
    assert groups.summary() == "6 images in 2 bursts"


def test_a_set_without_classes_is_not_one_group():
    traces = [Trace(f"clip1_frame_{i}.jpg") for i in range(9)]
    groups = find_groups(traces, [""] * 9)
    assert groups.lifted == ("the set",) and not any(groups.of)
    two = [*traces, *(Trace(f"clip2_frame_{i}.jpg") for i in range(9))]
    assert len(find_groups(two, [""] * 18).takes()) == 2
