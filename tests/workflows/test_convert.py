"""Conversion: every form of source, splits that stay, shards of the same bytes, nothing lost."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import types

import numpy as np
import pytest
import tensorflow as tf

from conversion.small_sources import ONE, read_back, records_of, rows_of_source
from dataset.tiny_sources import png
from tf_image_classification.cli import convert as convert_verb
from tf_image_classification.conversion import engines
from tf_image_classification.conversion.engines import run
from tf_image_classification.conversion.images import ImageOptions
from tf_image_classification.dataset.split import Split
from tf_image_classification.errors import ConfigError, DataError
from tf_image_classification.labels import Label
from tf_image_classification.workflows.convert import PROGRESS, ConvertOptions, convert


def test_a_folder_becomes_records_that_train(pictures, tmp_path):
    (pictures / "bee" / "notes.txt").write_text("x")
    (pictures / "bee" / ".hidden.png").write_bytes(png(1))
    (pictures / "bee" / "broken.png").write_bytes(png(1)[:40])
    (pictures / "readme.md").write_text("x")
    summary = convert(str(pictures), str(tmp_path / "out"), ConvertOptions(num_shards=3, **ONE))
    assert summary.num_examples == {"train": 20} and summary.num_rows == 24
    reasons = {os.path.basename(each.where): each.reason for each in summary.refused}
    assert reasons["notes.txt"] == "not the name of an image"
    assert reasons[".hidden.png"] == "hidden" and "beside" in reasons["readme.md"]
    assert "cut short or damaged" in reasons["broken.png"]
    assert summary.classes == {"ant": {"train": 10}, "bee": {"train": 10}}
    assert (tmp_path / "out" / "labels.txt").read_text() == "ant\nbee\n"
    assert len((tmp_path / "out" / "refused.csv").read_text().splitlines()) == 5
    described = json.loads((tmp_path / "out" / "dataset.json").read_text())
    assert described["num_examples"] == {"train": 20} and described["refused"] == 4
    columns, pixels = read_back(
        str(tmp_path / "out" / "train-*"), [Label("label", depth=2)], tmp_path
    )
    for number, pixel in zip(columns["label"], pixels, strict=True):
        assert (number == 0) == (pixel >= 100)  # ant is class 0
    assert sorted(pixels) == [*range(10), *range(100, 110)] and pixels != sorted(pixels)


def test_every_column_of_a_csv_is_kept(pictures, tmp_path):
    table = tmp_path / "t.csv"
    lines = ["URIs,labels,age,width,note", "pictures/bee/1.png,bee,3,0.5,007"]
    lines += ["pictures/ant/2.png,ant,,1.5,", "gone.png,ant,1,1.0,", "too,few"]
    table.write_text("\n".join(lines))
    summary = convert(str(table), str(tmp_path / "out"), ConvertOptions(shuffle=False, **ONE))
    assert summary.num_rows == 4 and len(summary.refused) == 2
    assert any("line 5" in each.where and "2 cells" in each.reason for each in summary.refused)
    first, second = records_of(summary.paths)
    assert first["label"].bytes_list.value[0] == b"bee" and first["age"].int64_list.value[0] == 3
    assert first["width"].float_list.value[0] == 0.5 and first["note"].bytes_list.value[0] == b"007"
    assert "age" not in second and first["image_uri"].bytes_list.value[0] == b"pictures/bee/1.png"


def written(tmp_path, lines, **options):
    """The features of a CSV's rows, each of which names the same picture otherwise."""
    (tmp_path / "one.png").write_bytes(png(1))
    table = tmp_path / "t.csv"
    rows = [f"{'./' * i}one.png,{line}" for i, line in enumerate(lines[1:])]
    table.write_text("\n".join([f"URIs,{lines[0]}", *rows]))
    summary = convert(
        str(table), str(tmp_path / "o"), ConvertOptions(shuffle=False, **options, **ONE)
    )
    return summary, list(records_of(summary.paths))


@pytest.mark.slow_after(3)
@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        (["3", "", "4"], "int64_list"),
        (["3", "2.5", "4"], "float_list"),
        (["08", "09", "10"], "bytes_list"),
        (["3", "x"], "bytes_list"),
        (["12345678901234567890", "1"], "bytes_list"),
        (["-9223372036854775808"], "int64_list"),
        (["9" * 5000], "bytes_list"),
    ],
)
def test_all_cells_decide_the_type_of_a_column(tmp_path, cells, kind):
    _, features = written(tmp_path, ["labels,x", *(f"cat,{cell}" for cell in cells)])
    assert {f["x"].WhichOneof("kind") for f in features if "x" in f} == {kind}
    if kind == "bytes_list":
        assert [f["x"].bytes_list.value[0].decode() for f in features] == cells


@pytest.mark.slow_after(2)
@pytest.mark.parametrize(
    ("cells", "options", "names", "kind"),
    [
        (["0", "2", "1"], {}, ["0", "1", "2"], "int64_list"),
        (["0", "2", "1"], {"class_names": ["2", "0", "1"]}, ["2", "0", "1"], "bytes_list"),
        (["10", "20", "9"], {}, ["9", "10", "20"], "bytes_list"),
        (["20230102", "20230101"], {}, ["20230101", "20230102"], "bytes_list"),
        (["08", "09", "10"], {}, ["08", "09", "10"], "bytes_list"),
        (["1.10", "1.1"], {}, ["1.1", "1.10"], "bytes_list"),
    ],
)
def test_classes_that_look_like_numbers_stay_the_classes_of_the_csv(
    tmp_path, cells, options, names, kind
):
    summary, features = written(tmp_path, ["labels", *cells], **options)
    assert list(summary.classes) == names
    assert {f["label"].WhichOneof("kind") for f in features} == {kind}
    labels = [Label("label", depth=len(names))]
    trained = {"label": tuple(names)} if options else {}
    of_csv, _ = read_back(str(tmp_path / "t.csv"), labels, tmp_path, **trained)
    of_records, _ = read_back(summary.paths[0], labels, tmp_path, **trained)
    assert of_csv == of_records


@pytest.mark.parametrize("header", ["labels,x,x", "labels,label"])
def test_a_column_that_is_named_twice_is_an_error(tmp_path, header):
    with pytest.raises(
        DataError, match=r"t\.csv .*(names column 'x' twice|two names of one label)"
    ):
        written(tmp_path, [header, "cat,1,2"])


def test_a_csv_without_header_is_path_and_label(pictures, tmp_path):
    (tmp_path / "t.csv").write_text("pictures/bee/1.png,bee\npictures/ant/2.png,ant\n")
    summary = convert(str(tmp_path / "t.csv"), str(tmp_path / "out"), ConvertOptions(**ONE))
    assert summary.num_examples == {"train": 2} and list(summary.classes) == ["ant", "bee"]


def test_the_old_schema_has_one_float_a_label_and_gzip(pictures, tmp_path):
    options = ConvertOptions(schema="legacy", shuffle=False, **ONE)
    summary = convert(str(pictures), str(tmp_path / "out"), options)
    assert summary.paths[0].endswith("train-00000-of-00001.tfrecord.gz")
    values = [f["label"].float_list.value[0] for f in records_of(summary.paths)]
    assert values == [0.0] * 10 + [1.0] * 10
    columns, _ = read_back(
        summary.paths[0], [Label("label", depth=2)], tmp_path, label=("ant", "bee")
    )
    assert columns["label"] == [0] * 10 + [1] * 10


def test_a_name_that_no_record_can_have_is_refused(pictures, tmp_path):
    (pictures / os.fsdecode(b"caf\xe9")).mkdir()
    (pictures / os.fsdecode(b"caf\xe9") / "1.png").write_bytes(png(1))
    summary = convert(str(pictures), str(tmp_path / "out"), ConvertOptions(**ONE))
    assert ["rename it" in each.reason for each in summary.refused] == [True]
    assert len((tmp_path / "out" / "refused.csv").read_text().splitlines()) == 2
    assert (tmp_path / "out" / "labels.txt").read_text() == "ant\nbee\n"


def test_records_can_be_converted_again(pictures, tmp_path):
    first = convert(str(pictures), str(tmp_path / "one"), ConvertOptions(schema="legacy", **ONE))
    again = convert(str(tmp_path / "one" / "train-*"), str(tmp_path / "two"), ConvertOptions(**ONE))
    assert again.num_examples == first.num_examples
    _, pixels = read_back(again.paths[0], [Label("label", depth=2)], tmp_path)
    assert sorted(pixels) == [*range(10), *range(100, 110)]


@pytest.mark.parametrize(
    "words",
    [
        "--num_shards -1", "--shard_mb 0", "--processes -1", "--short_side -1",
        "--max_image_pixels 0", "--quality 0 --image_format jpeg", "--quality 96 --short_side 9",
        "--quality 80", "--quality 80 --image_format png --short_side 9", "--image_format gif",
        "--processes 2 --runner direct",
    ],
)  # fmt: skip
def test_an_option_that_cannot_act_is_refused(pictures, tmp_path, words, capsys):
    with pytest.raises(SystemExit):
        convert_verb.main([str(pictures), str(tmp_path / "out"), *words.split()])
    assert f"{words.split()[0]} is" in capsys.readouterr().err


def test_hidden_folders_are_no_classes_and_are_told(pictures):
    for folder in (pictures / ".trash", pictures / "bee" / ".thumbnails"):
        folder.mkdir()
        (folder / "1.png").write_bytes(png(1))
    rows, refused = rows_of_source(str(pictures))
    assert {row.columns["label"] for row in rows} == {"ant", "bee"} and len(rows) == 20
    assert [(os.path.basename(each.where), each.reason) for each in refused] == [
        (".trash", "hidden"), (".thumbnails", "hidden"),
    ]  # fmt: skip


def test_classes_that_get_another_name_can_still_be_divided_evenly(pictures, tmp_path, capsys):
    line = [str(pictures), str(tmp_path / "out"), "--feature", "class_id", "--stratify", "label"]
    assert convert_verb.main([*line, "--split", "eval=0.2,train=0.8", "--processes", "1"]) == 0
    assert f"'{tmp_path / 'out'}/train-*'" in capsys.readouterr().out
    rows, _ = rows_of_source(str(tmp_path / "out"))  # labels.txt and so on lie beside
    assert len(rows) == 20 and {row.columns["class_id"] for row in rows} == {"ant", "bee"}


def test_the_old_schema_asks_for_the_classes(pictures, tmp_path):
    (tmp_path / "t.csv").write_text("URIs,kind,who\npictures/bee/1.png,bee,me\n")
    with pytest.raises(ConfigError, match="Give --label, one of kind, who"):
        options = ConvertOptions(schema="legacy", **ONE)
        convert(str(tmp_path / "t.csv"), str(tmp_path / "out"), options)


def test_labels_of_other_classes_are_an_error(pictures, tmp_path):
    options = ConvertOptions(class_names=("wasp", "fly"), **ONE)
    with pytest.raises(DataError, match=r"none of .*\(ant, bee\) is in it, only wasp, fly"):
        convert(str(pictures), str(tmp_path / "out"), options)


def contents(folder):
    return {
        name: (folder / name).read_bytes()
        for name in sorted(os.listdir(folder))
        if ".tfrecord" in name and not name.startswith(".")  # which a killed process may leave
    }


SHARES = {"split": Split({"train": 0.7, "eval": 0.3}), "num_shards": 3, "schema": "legacy"}


@pytest.mark.slow
def test_a_pool_writes_the_same_bytes_as_one_process(pictures, tmp_path):
    one = convert(str(pictures), str(tmp_path / "one"), ConvertOptions(**SHARES, **ONE))
    two = convert(str(pictures), str(tmp_path / "two"), ConvertOptions(**SHARES, num_processes=2))
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert one.fingerprint == two.fingerprint and len(one.paths) == 6


def test_few_images_start_no_processes(monkeypatch):
    started = []

    @contextlib.contextmanager
    def process_pool(count):
        started.append(count)
        yield types.SimpleNamespace(map=map)

    monkeypatch.setattr(engines, "process_pool", process_pool)
    monkeypatch.setattr(engines, "write_shard", lambda shard: shard.path)
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    for images, processes in ((400, 0), (600, 0), (400, 2)):
        shards = [types.SimpleNamespace(path=path, rows=range(images)) for path in "ab"]
        assert list(run(shards, runner="pool", num_processes=processes)) == ["a", "b"]
    assert started == [2, 2]


@pytest.mark.slow
@pytest.mark.parametrize("runner", [pytest.param("direct", marks=pytest.mark.exhaustive), "dask"])
def test_beam_writes_the_same_bytes(pictures, tmp_path, runner):
    pytest.importorskip("apache_beam", reason="the extra beam is not installed")
    if runner == "dask":
        pytest.importorskip("dask.distributed", reason="Dask is not installed")
    convert(str(pictures), str(tmp_path / "one"), ConvertOptions(**SHARES, **ONE))
    convert(str(pictures), str(tmp_path / "two"), ConvertOptions(**SHARES, runner=runner))
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_beam_that_is_not_installed_names_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    with pytest.raises(ConfigError, match=r"\[beam\]"):
        list(run([], runner="direct", num_processes=1))


@pytest.mark.slow
def test_a_killed_conversion_keeps_its_finished_shards(pictures, tmp_path):
    for i in range(120):
        noise = np.random.default_rng(i).integers(0, 256, [300, 300, 3]).astype(np.uint8)
        (pictures / "bee" / f"n{i}.png").write_bytes(tf.io.encode_png(noise).numpy())
    line = [sys.executable, "-m", "tf_image_classification.cli.main", "convert", str(pictures)]
    line += [str(tmp_path / "out"), "--num_shards", "12", "--processes", "1", "--short_side", "200"]
    process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    progress = tmp_path / "out" / PROGRESS
    for _ in range(1200):
        if len(list(progress.glob("[!.]*"))) >= 2:  # the others are being written
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    done = [path.name for path in progress.glob("[!.]*")]
    assert 2 <= len(done) < 12
    before = {n: os.stat(tmp_path / "out" / n.removesuffix(".json")).st_mtime_ns for n in done}
    options = ConvertOptions(num_shards=12, images=ImageOptions(short_side=200), **ONE)
    summary = convert(str(pictures), str(tmp_path / "out"), options)
    assert summary.num_examples == {"train": 140}
    for name, changed in before.items():
        assert os.stat(tmp_path / "out" / name.removesuffix(".json")).st_mtime_ns == changed
    convert(str(pictures), str(tmp_path / "whole"), options)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_images_without_class_folders_are_refused_with_what_is_expected(tmp_path):
    (tmp_path / "one.png").write_bytes(b"")
    with pytest.raises(
        DataError, match=r"no class folders: its images have no class.* a folder of"
    ):
        convert(str(tmp_path), str(tmp_path / "out"), ConvertOptions(**ONE))


def test_a_folder_with_other_records_is_refused(pictures, tmp_path):
    convert(str(pictures), str(tmp_path / "out"), ConvertOptions(num_shards=2, **ONE))
    with pytest.raises(DataError, match="holds other records"):
        convert(str(pictures), str(tmp_path / "out"), ConvertOptions(num_shards=3, **ONE))
    test = Split({"test": 1.0})  # it would take the place of dataset.json
    with pytest.raises(DataError, match="holds other records"):
        convert(str(pictures), str(tmp_path / "out"), ConvertOptions(split=test, **ONE))
    convert(str(pictures), str(tmp_path / "out"), ConvertOptions(split=test, suffix="-t", **ONE))
    with pytest.raises(DataError, match="holds other records"):
        other = ConvertOptions(split=test, suffix="-t", num_shards=2, **ONE)
        convert(str(pictures), str(tmp_path / "out"), other)


def test_a_repaired_source_is_converted_again(pictures, tmp_path):
    broken, out = pictures / "bee" / "3.png", tmp_path / "out"
    whole = broken.read_bytes()
    broken.write_bytes(whole[:40])
    first = convert(str(pictures), str(out), ConvertOptions(**ONE))
    assert len(first.refused) == 1 and (out / "refused.csv").exists()
    broken.write_bytes(whole)
    again = convert(str(pictures), str(out), ConvertOptions(**ONE))
    assert again.num_examples == {"train": 20} and not (out / "refused.csv").exists()
    changed = os.stat(again.paths[0]).st_mtime_ns
    convert(str(pictures), str(out), ConvertOptions(**ONE))
    assert os.stat(again.paths[0]).st_mtime_ns == changed


def test_a_shard_without_images_is_not_written(pictures, tmp_path):
    lines = [f"pictures/bee/{i}.png,bee" for i in range(4)]
    (tmp_path / "t.csv").write_text("\n".join(lines))
    for i in (2, 3):
        (pictures / "bee" / f"{i}.png").write_bytes(b"")
    options = ConvertOptions(num_shards=2, shuffle=False, **ONE)
    for _ in range(2):
        summary = convert(str(tmp_path / "t.csv"), str(tmp_path / "out"), options)
        assert list(contents(tmp_path / "out")) == ["train-00000-of-00002.tfrecord"]
        assert len(summary.paths) == 1 and len(summary.refused) == 2
    labels = [Label("label", depth=2)]
    pattern = str(tmp_path / "out" / "train-*")
    assert len(read_back(pattern, labels, tmp_path, label=("bee", "ant"))[1]) == 2


def test_a_part_without_images_is_an_error(pictures, tmp_path):
    for path in pictures.glob("*/*.png"):
        path.write_bytes(b"")
    with pytest.raises(DataError, match=r"part train has no image.*refused\.csv"):
        convert(str(pictures), str(tmp_path / "out"), ConvertOptions(**ONE))
    assert len((tmp_path / "out" / "refused.csv").read_text().splitlines()) == 21


def test_another_source_does_not_replace_the_records_of_the_first(pictures, tmp_path):
    convert(str(pictures), str(tmp_path / "out"), ConvertOptions(**ONE))
    (tmp_path / "t.csv").write_text("pictures/bee/1.png,bee\n")
    with pytest.raises(DataError, match=r"holds the conversion of .*pictures, not of .*t\.csv"):
        convert(str(tmp_path / "t.csv"), str(tmp_path / "out"), ConvertOptions(**ONE))


def test_an_image_that_is_named_twice_is_two_examples_as_in_training(pictures, tmp_path):
    (tmp_path / "t.csv").write_text("pictures/bee/1.png,bee\npictures/bee/1.png,ant\n")
    summary = convert(str(tmp_path / "t.csv"), str(tmp_path / "out"), ConvertOptions(**ONE))
    assert summary.num_rows == 2 and summary.num_examples == {"train": 2} and not summary.refused


def test_the_verb_says_what_became_of_every_row(pictures, tmp_path, capsys):
    (pictures / "bee" / "zero.png").write_bytes(b"")
    line = [
        str(pictures),
        str(tmp_path / "out"),
        "--split",
        "train=0.5,eval=0.5",
        "--processes",
        "1",
    ]
    assert convert_verb.main(line) == 0
    printed = capsys.readouterr().out
    assert "21 rows of the source" in printed and "refused: 1" in printed and "0 bytes" in printed
    assert f"--train_metadata '{tmp_path / 'out'}/train-*'" in printed
    with pytest.raises(SystemExit):
        convert_verb.main([*line, "--split", "half"])


@pytest.mark.parametrize("source", ["missing", "empty", "x.docx"])
def test_a_source_that_is_none_is_an_error(tmp_path, source):
    (tmp_path / "empty").mkdir()
    (tmp_path / "x.docx").write_bytes(b"x")
    with pytest.raises(DataError):
        rows_of_source(str(tmp_path / source))


def test_a_command_line_of_the_first_version_is_understood(pictures, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)  # where the first version's relative paths start
    (tmp_path / "labels.txt").write_text("bee\nant\n")
    (tmp_path / "lists").mkdir()
    for part, numbers in (("train", range(7)), ("eval", range(7, 10))):
        rows = [f"pictures/{n}/{i}.png,{n}\n" for i in numbers for n in ("ant", "bee")]
        rows.append("pictures/bee/0.png,wasp\n" if part == "eval" else "")
        (tmp_path / "lists" / f"{part}.csv").write_text("".join(rows))
        line = [f"--input_path=lists/{part}.csv", "--input_labels", "labels.txt"]
        assert convert_verb.main([*line, "--output_path", f"records/{part}"]) == 0
    assert sorted(os.listdir("records")) == [
        PROGRESS, "dataset-eval.json", "dataset-train.json",
        "eval-00000-of-00001.tfrecord.gz", "labels-eval.txt", "labels-train.txt",
        "refused-eval.csv", "train-00000-of-00001.tfrecord.gz",
    ]  # fmt: skip
    found = list(records_of(["records/train-00000-of-00001.tfrecord.gz"]))
    assert [f["class_id"].float_list.value[0] for f in found] == [1.0, 0.0] * 7
    assert found[0]["image_uri"].bytes_list.value[0].endswith(b"pictures/ant/0.png")
    assert "'wasp' is not in --labels" in capsys.readouterr().out


def test_old_flags_for_the_cloud_go_to_beam():
    old = ["--input_path", "gs://b/list.csv", "--input_labels", "gs://b/l.txt", "--output_path",
           "gs://b/records/train", "--cloud", "--project", "p", "--num_workers", "10"]  # fmt: skip
    words = convert_verb.of_the_first_version(old)
    assert words[:2] == ["gs://b/list.csv", "gs://b/records"]
    assert {"dataflow", "--project=p", "--num_workers=10"} <= set(words)
    assert "--temp_location=gs://b/records/temp" in words
    with pytest.raises(ConfigError, match="no effect without --cloud"):
        convert_verb.of_the_first_version([*old[:6], "--job_name", "j"])
    with pytest.raises(ConfigError, match="prefix of the records' names"):
        convert_verb.of_the_first_version([*old[:5], "records/"])
    assert convert_verb.of_the_first_version(["a", "b"]) == ["a", "b"]


@pytest.mark.parametrize("names", ["", "bee\nbee\n"])
def test_a_list_of_classes_must_name_each_once(pictures, tmp_path, names, capsys):
    path = tmp_path / "labels.txt"
    path.write_text(names)
    with pytest.raises(SystemExit):
        convert_verb.main([str(pictures), str(tmp_path / "out"), "--labels", str(path)])
    assert "each once" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        convert_verb.main([str(pictures), str(tmp_path / "out"), "--labels", f"{path}.old"])
    assert "no such file" in capsys.readouterr().err
