"""Findings on labels, files left out, 16-bit PNGs and model folders."""

import json
import os
import re

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import browser
from tf_image_classification.cli import inspect as inspect_verb
from tf_image_classification.dataset.tfrecord import write_shards
from tf_image_classification.errors import ConfigError, DataError
from tf_image_classification.inspection.page import page
from tf_image_classification.workflows.inspect import as_json, inspect, write_clean_csv
from workflows.setup.test_png16_range import write_deep
from workflows.test_inspect import clean, kinds, picture, saved  # noqa: F401

# Several labels ------------------------------------------------------------------------------


@pytest.fixture
def two_labels(tmp_path):
    """A table of two labels and more; one copy contradicts the second label only."""
    lines = ["URIs,colour,shape,person,score,source"]
    for i in range(24):
        (tmp_path / f"{i}.jpg").write_bytes(saved(picture(i)))
        colour, shape = ("red", "blue")[i % 2], ("round", "square")[i // 12]
        lines.append(f"{i}.jpg,{colour},{shape},p{i},{i / 7},camera")
    (tmp_path / "copy.jpg").write_bytes((tmp_path / "0.jpg").read_bytes())
    lines.append("copy.jpg,red,square,p99,1.5,camera")
    (tmp_path / "t.csv").write_text("\n".join(lines))
    return tmp_path / "t.csv"


def test_all_label_columns_are_checked_and_named(two_labels, capsys):
    line = [str(two_labels), "--page", "", "--processes", "1"]
    assert inspect_verb.main(line) == 1
    printed = capsys.readouterr().out
    assert "colour: 2 classes: blue 12, red 13" in printed
    assert "shape: 2 classes: round 12, square 13" in printed
    assert re.search(r"error: conflicts: shape: 1 picture has different labels, 1 of", printed)
    assert "conflicts: colour" not in printed
    assert "column score is skipped: real values" in printed
    assert "column person is skipped: nearly every example has its own value" in printed
    assert "column source is skipped: the same for all examples" in printed


def test_chosen_label_columns_are_checked_and_no_others(two_labels):
    found = inspect(str(two_labels), label="colour", num_processes=1)
    assert found.labels == ["colour"] and "conflicts" not in kinds(found)
    assert found.skipped_columns["shape"] == "not in --label"
    both = inspect(str(two_labels), label="shape,colour", num_processes=1)
    assert both.labels == ["shape", "colour"] and kinds(both)["conflicts"].label == "shape"
    stored = as_json(both)
    assert stored["labels"]["shape"] == {"round": {"train": 12}, "square": {"train": 13}}
    assert json.loads(json.dumps(stored))["columns_not_judged"]["score"] == "not in --label"


def test_the_clean_table_keeps_all_labels_under_their_names(two_labels, tmp_path):
    out = tmp_path / "clean.csv"
    assert write_clean_csv(str(out), inspect(str(two_labels), num_processes=1)) == 23
    assert out.read_text().splitlines()[0] == "URIs,colour,shape,person,score,source"
    again = inspect(str(out), num_processes=1)
    assert again.labels == ["colour", "shape"] and "conflicts" not in kinds(again)


def test_a_clean_table_has_paths_that_are_not_utf8(tmp_path):
    folder = tmp_path / "pictures"
    for i in range(12):
        of_class = os.fsencode(folder / "ab"[i % 2])
        os.makedirs(of_class, exist_ok=True)
        with open(of_class + b"/caf\xe9 %d.jpg" % i, "wb") as stream:
            stream.write(saved(picture(i)))
    found = inspect(str(folder), num_processes=1)
    out = tmp_path / "clean.csv"
    assert write_clean_csv(str(out), found) == 12
    assert b"/a/caf\xe9 0.jpg,a" in out.read_bytes()


def test_whole_numbers_of_records_are_classes_without_decimals(tmp_path):
    examples = ((saved(picture(i)), f"{i}.jpg", {"class_id": float(i % 2)}) for i in range(24))
    write_shards(str(tmp_path), "train", examples, num_shards=1)
    found = inspect(str(tmp_path / "train-*"), num_processes=1)
    (label,) = found.labels
    assert found.classes(label) == {"0": {"train": 12}, "1": {"train": 12}}


def test_an_image_of_several_classes_counts_for_each(tmp_path):
    lines = ["URIs,tags"]
    for i in range(20):
        (tmp_path / f"{i}.jpg").write_bytes(saved(picture(i)))
        lines.append(f"{i}.jpg,{('ant|bee', 'ant', 'bee')[i % 3]}")
    (tmp_path / "t.csv").write_text("\n".join(lines))
    found = inspect(str(tmp_path / "t.csv"), num_processes=1)
    assert found.classes("tags") == {"ant": {"train": 14}, "bee": {"train": 13}}


# What is left out ----------------------------------------------------------------------------


def test_what_is_left_out_is_named_with_its_reason_on_screen_and_page(clean, tmp_path, capsys):  # noqa: F811
    folder = clean / "train" / "ant"
    (folder / "notes <1>.txt").write_text("x")
    (folder / "IMG_1.HEIC").write_bytes(b"\0\0\0\x18ftypheic" + bytes(20))
    for number in range(12):
        (folder / f"scan{number}.tif").write_bytes(b"II*\0" + bytes(20))
    line = [str(clean / "train"), "--page", str(tmp_path / "p.html"), "--processes", "1"]
    line += ["--json", str(tmp_path / "v.json")]
    assert inspect_verb.main(line) == 0
    printed = capsys.readouterr().out
    formats = "warning: other_formats: 13 files in unsupported image formats: 12 TIFF, 1 HEIC"
    assert formats in printed and "magick mogrify -format png *.tif" in printed
    assert "note: left_out: 14 files or rows are left out: TIFF is not read (12)" in printed
    assert f"  {folder}/IMG_1.HEIC: HEIC is not read: convert it" in printed
    assert "and 4 more, on the page and in the JSON file" in printed
    text = (tmp_path / "p.html").read_text()
    assert all(f"scan{number}.tif" in text for number in range(12)) and "notes &lt;1&gt;" in text
    left_out = json.loads((tmp_path / "v.json").read_text())["left_out"]
    assert {each["reason"].partition(":")[0] for each in left_out} == {
        "HEIC is not read",
        "TIFF is not read",
        "not the name of an image",
    }


def test_rows_whose_image_is_missing_are_a_warning_and_come_first(tmp_path, capsys):
    lines = ["URIs,labels"]
    for i in range(22):
        (tmp_path / f"{i}.jpg").write_bytes(saved(picture(i)))
        lines.append(f"{i}.jpg,{'ab'[i % 2]}")
    (tmp_path / "t.csv").write_text("\n".join([*lines, "gone.jpg,a"]))
    line = [str(tmp_path / "t.csv"), "--page", "", "--processes", "1"]
    inspect_verb.main(line)
    printed = capsys.readouterr().out
    assert "gone.jpg" in printed and re.search("warning: left_out|error: broken", printed)


# 16-bit PNGs ---------------------------------------------------------------------------------


@pytest.mark.slow_after(1)
@pytest.mark.parametrize(("most", "named"), [(255, "0-255"), (4095, "0-4095")])
def test_sixteen_bits_that_hold_fewer_are_an_error_that_names_the_range(tmp_path, most, named):
    found = inspect(write_deep(tmp_path / "d", range(10), most), num_processes=1)
    error = kinds(found)["narrow_16_bits"]
    assert error.severity == "error" and len(error.members) == 20
    assert re.search(r"values \d to \d+, of 65535", error.text)
    assert f"--png16_range measured, or {named}." in error.text
    assert "one_colour" not in kinds(found)  # they are looked at as they are meant
    assert max(image.brightness for image in found.images) > 100


def test_sixteen_bits_that_are_used_are_a_note(tmp_path):
    found = inspect(write_deep(tmp_path / "d", range(10), 65_535), num_processes=1)
    assert kinds(found)["16_bits"].severity == "note" and "narrow_16_bits" not in kinds(found)


def test_a_black_image_among_those_that_use_their_bits_is_no_error(tmp_path):
    folder = write_deep(tmp_path / "d", range(10), 65_535)
    dark = np.full([8, 8, 3], 40, np.uint16)
    (tmp_path / "d" / "ant" / "dark.png").write_bytes(tf.io.encode_png(dark).numpy())
    found = inspect(folder, num_processes=1)
    assert "narrow_16_bits" not in kinds(found)
    assert [found.images[i].key for [i] in kinds(found)["one_colour"].members] == ["ant/dark.png"]


# What is no set of images --------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("options", [[], ["--eval"]])
def test_a_model_folder_is_named_as_one(clean, tmp_path, capsys, options):  # noqa: F811
    import tiny_runs

    records = tiny_runs.write_records(tmp_path, "train", count=12)
    tiny_runs.run(tiny_runs.plain_spec(), tmp_path / "m", records, train_steps=1)
    line = (
        [str(clean / "train"), *options, str(tmp_path / "m")] if options else [str(tmp_path / "m")]
    )
    with pytest.raises(SystemExit):
        inspect_verb.main([*line, "--page", ""])
    said = capsys.readouterr().err
    assert (
        f"{(options or ['SOURCE'])[0]} {tmp_path}/m is a model folder (it holds run.json)" in said
    )
    assert f"tfic inspect {records}" in said and f"tfic report {tmp_path}/m" in said


def test_a_label_that_is_not_there_gets_the_nearest(two_labels):
    with pytest.raises(ConfigError, match="--label shap: no such column. Did you mean shape"):
        inspect(str(two_labels), label="colour,shap", num_processes=1)


def test_a_folder_without_images_is_still_told_to_be_one(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no class folders"):
        inspect(str(tmp_path / "empty"))


# The page ------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(("width", "dark"), [(390, True), (1200, False)])
def test_the_page_fits_the_screen_and_complains_of_nothing(clean, tmp_path, width, dark):  # noqa: F811
    folder = clean / "train" / "ant"
    (folder / ("long" * 40 + ".jpg")).write_bytes((folder / "1.jpg").read_bytes())
    (folder / "cut.jpg").write_bytes((folder / "1.jpg").read_bytes()[:500])
    Image.new("RGB", (40, 30)).save(folder / "black.png")
    (folder / ("notes" * 30)).write_text("x")
    found = inspect(str(clean / "train"), str(clean / "eval"), num_processes=1)
    path = tmp_path / "p.html"
    path.write_text(page(found, "a" * 200))
    with browser.open_page(f"file://{path}", width=width, dark=dark) as (shown, complaints):
        assert complaints == []
        size = shown.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
        assert size[0] <= size[1]
        links = shown.locator("ul.contents a")
        assert links.count() == len(found.findings)
        for number in range(links.count()):
            target = links.nth(number).get_attribute("href")
            assert shown.locator(target).count() == 1
        sizes = shown.evaluate("[...document.images].map(i => [i.naturalWidth, i.alt])")
        assert sizes and all(natural > 0 for natural, _ in sizes)
