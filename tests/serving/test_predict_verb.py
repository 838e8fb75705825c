"""``tfic predict`` interrupted, continued, and given inputs of every kind."""

import csv
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tracemalloc
import types

import numpy as np
import pytest
from pyarrow import parquet

from tf_image_classification.cli import predict as predict_verb
from tf_image_classification.errors import RunInterrupted
from tf_image_classification.labels import Label, LabelSchema
from tf_image_classification.serving import predictor
from tf_image_classification.serving.prediction_file import PredictionFile
from tf_image_classification.serving.predictor import load_model
from tf_image_classification.system import screen

KINDS = ("csv", "jsonl", "parquet")


@pytest.fixture(scope="module")
def folder(shipped_run, tmp_path_factory):
    """Twelve images, one of which is none."""
    folder = tmp_path_factory.mktemp("pictures")
    for i in range(12):
        data = b"no image" if i == 4 else shipped_run.images[i]
        (folder / f"{i:02d}.png").write_bytes(data)
    return folder


@pytest.fixture(autouse=True)
def loaded_once(shipped_run, monkeypatch):
    """The model of the run, without loading it for every test."""
    if not hasattr(loaded_once, "model"):
        loaded_once.model = load_model(shipped_run.model_dir)
    monkeypatch.setattr(predictor, "load_model", lambda path, **_: loaded_once.model)
    return loaded_once.model


def predict(*arguments):
    """The verb's status, however it ends."""
    try:
        return predict_verb.main(["model", "--batch_size", "1", *map(str, arguments)])
    except SystemExit as end:
        return end.code


def rows_of(path):
    path = str(path)
    if path.endswith("parquet"):
        return parquet.read_table(path).to_pylist()
    with open(path, encoding="utf-8", newline="") as stream:
        return (
            list(csv.DictReader(stream)) if path.endswith("csv") else list(map(json.loads, stream))
        )


def after_rows(monkeypatch, count, action):
    """Call an action with the output after its n-th row."""
    add = PredictionFile.add

    def add_and_act(self, row):
        add(self, row)
        if self.num_rows == count:
            action(self)

    monkeypatch.setattr(PredictionFile, "add", add_and_act)


@pytest.mark.slow_after(3)
@pytest.mark.exhaustive_after(5)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_output_keeps_its_rows_and_is_continued(
    folder, tmp_path, monkeypatch, capsys, loaded_once, kind, number
):
    whole, output = (str(tmp_path / f"{name}.{kind}") for name in ("whole", "out"))
    assert predict(folder, "--output", whole) == 1
    with monkeypatch.context() as patched:
        after_rows(patched, 5, lambda _: os.kill(os.getpid(), number))
        assert predict(folder, "--output", output) == 128 + number
    with monkeypatch.context() as patched:
        after_rows(patched, 5, lambda _: os.kill(os.getpid(), number))
        resumed = f"{output[: -len(kind)]}resumed.{kind}"
        assert predict(folder, "--output", resumed, "--resume") == RunInterrupted.exit_code
    os.remove(f"{resumed}.part")
    os.remove(f"{resumed}.part.json")
    assert not os.path.exists(output)
    lines = (tmp_path / f"out.{kind}.part").read_text().splitlines()
    assert len(lines) == 5 + (kind == "csv")
    assert f"5 rows are in {output}.part. The same command with --resume" in capsys.readouterr().err
    prepared = []
    prepare = loaded_once.prepare
    monkeypatch.setattr(loaded_once, "prepare", lambda x: prepared.append(x) or prepare(x))
    assert predict(folder, "--output", output, "--resume") == 1  # of the bad one from before
    assert [os.path.basename(path) for path in prepared] == [f"{i:02d}.png" for i in range(5, 12)]
    assert rows_of(output) == rows_of(whole)
    assert {path.name for path in tmp_path.iterdir()} == {
        f"{name}.{kind}{more}" for name in ("whole", "out") for more in ("", ".json")
    }
    prepared.clear()
    assert predict(folder, "--output", output, "--resume") == 1
    assert prepared == [] and "is complete: 12 rows" in capsys.readouterr().err


@pytest.mark.slow_after(1)
@pytest.mark.parametrize("kind", KINDS)
def test_a_kill_at_any_row_leaves_an_output_that_can_be_continued(
    folder, tmp_path, monkeypatch, kind
):
    """The folder as a kill would leave it: with a record that lags behind and half a row."""
    whole = str(tmp_path / "whole" / f"out.{kind}")
    assert predict(folder, "--output", whole) == 1
    monkeypatch.setattr("tf_image_classification.serving.prediction_file._STATE_INTERVAL_SECS", -1)
    for count in (1, 7, 12):
        running, killed = tmp_path / f"running{count}", tmp_path / f"killed{count}"
        with monkeypatch.context() as patched:
            after_rows(patched, count, lambda _, r=running, k=killed: shutil.copytree(r, k))
            predict(folder, "--output", running / f"out.{kind}")
        with open(killed / f"out.{kind}.part", "a", encoding="utf-8") as stream:
            stream.write('"half a ro')
        assert predict(folder, "--output", killed / f"out.{kind}", "--resume") == 1
        assert rows_of(killed / f"out.{kind}") == rows_of(whole)


@pytest.mark.slow_after(1)
@pytest.mark.parametrize("kind", KINDS)
def test_a_kill_during_the_last_steps_leaves_an_output_that_can_be_continued(
    folder, tmp_path, monkeypatch, kind
):
    from tf_image_classification.system import files

    complete = PredictionFile.complete
    for steps in range(4):
        output = tmp_path / str(steps) / f"out.{kind}"
        with monkeypatch.context() as patched:
            left = [steps]

            def one_less(left=left):
                left[0] -= 1
                if left[0] < 0:
                    raise KeyboardInterrupt

            def complete_until_killed(self, patched=patched, one_less=one_less):
                for name in ("rename", "remove", "write_bytes"):
                    function = getattr(files, name)
                    patched.setattr(files, name, lambda *a, f=function: (one_less(), f(*a))[1])
                complete(self)

            patched.setattr(PredictionFile, "complete", complete_until_killed)
            predict(folder, "--output", output)
        assert predict(folder, "--output", output, "--resume") == 1
        assert len(rows_of(output)) == 12
        names = {path.name for path in output.parent.iterdir()}
        assert names == {output.name, f"{output.name}.json"}


def interrupted(folder, output, monkeypatch):
    with monkeypatch.context() as patched:
        after_rows(patched, 5, lambda _: os.kill(os.getpid(), signal.SIGINT))
        assert predict(folder, "--output", output) == 128 + signal.SIGINT


@pytest.mark.parametrize("is_complete", [False, True])
def test_an_output_of_something_else_is_not_continued(
    folder, tmp_path, monkeypatch, capsys, loaded_once, is_complete
):
    output = tmp_path / "out.csv"
    if is_complete:
        predict(folder, "--output", output)
    else:
        interrupted(folder, output, monkeypatch)
    kept = {path: path.read_bytes() for path in tmp_path.iterdir()}
    capsys.readouterr()
    first, more = str(folder / "00.png"), ("--output", output, "--resume")
    for arguments, message in (
        ((folder / "01.png", folder), "row 1 is"),
        ((first,), "row 2 is '.*01.png', now there are no more inputs"),
        ((folder, "--top_k", "2"), "top_k: 5 there, 2 now"),
        ((folder, "--nocalibrated"), "calibrated: True there, False now"),
    ):
        assert predict(*arguments, *more) == 1
        error = capsys.readouterr().err
        assert error.startswith("RunMismatchError: ") and error.count("\n") == 1
        assert re.search(message, error), error
    with monkeypatch.context() as patched:
        patched.setattr(loaded_once, "fingerprint", lambda: "another")
        assert predict(folder, *more) == 1
        assert "model: " in capsys.readouterr().err
    if is_complete:
        assert predict(folder, first, *more) == 1
        assert "complete with 12 rows, and there are more inputs" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == kept


def test_rows_of_an_interrupted_run_are_not_lost_without_resume(
    folder, tmp_path, monkeypatch, capsys
):
    output = tmp_path / "out.csv"
    interrupted(folder, output, monkeypatch)
    assert predict(folder, "--output", output) == 1
    assert "holds 5 rows of an interrupted run. Add --resume" in capsys.readouterr().err
    (tmp_path / "out.csv.part").write_text("uri\n")
    assert predict(folder, "--output", output, "--resume") == 1
    assert "shorter than" in capsys.readouterr().err


def test_two_processes_do_not_write_one_output(folder, tmp_path, monkeypatch, capsys):
    output = tmp_path / "out.csv"
    statuses = []
    after_rows(monkeypatch, 3, lambda _: statuses.append(predict(folder, "--output", output)))
    assert predict(folder, "--output", output) == 1
    assert statuses == [1] and len(rows_of(output)) == 12
    assert "Another process is writing" in capsys.readouterr().err


def test_resume_begins_an_output_that_is_not_there_and_refuses_one_without_its_record(
    folder, tmp_path, capsys
):
    output = tmp_path / "out.csv"
    assert predict(folder, "--output", output, "--resume") == 1
    assert len(rows_of(output)) == 12
    os.remove(tmp_path / "out.csv.json")
    assert predict(folder, "--output", output, "--resume") == 1
    assert "cannot be continued: " in capsys.readouterr().err
    assert predict(folder, "--resume") == 2
    assert "--resume continues a file" in capsys.readouterr().err


def test_an_older_output_stays_until_the_new_one_is_complete(folder, tmp_path, monkeypatch):
    output = tmp_path / "out.csv"
    output.write_text("older\n")
    interrupted(folder, output, monkeypatch)
    assert output.read_text() == "older\n"
    assert predict(folder, "--output", output, "--resume") == 1
    assert len(rows_of(output)) == 12


def test_rows_are_there_before_the_last_input_is(folder, tmp_path, monkeypatch, capsys):
    """Of a list that is being written, in a file and on standard output."""
    path = str(folder / "00.png")
    for output, more in ((tmp_path / "out.csv", ["--output", tmp_path / "out.csv"]), (None, [])):
        seen = []

        def lines(output=output, seen=seen):
            for _ in range(60):
                yield f"{path}\n"
            text = output.with_suffix(".csv.part").read_text() if output else ""
            seen.append(text or capsys.readouterr().out)

        monkeypatch.setattr(sys, "stdin", lines())
        assert predict("-", *more) == 0
        assert seen[0].count("00.png") > 20


def test_rows_on_a_terminal_are_lines_to_read(folder, monkeypatch, capsys):
    monkeypatch.setattr(screen, "is_terminal", lambda stream: stream is sys.stdout)
    assert predict(folder / "00.png", folder / "04.png") == 1
    first, second = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r".*00\.png  .* \d+ %(, .* \d+ %)*(; .*)?", first)
    assert "04.png  " in second and "%" not in second


def test_a_bad_input_is_a_row_and_the_others_are_predicted(
    folder, shipped_run, tmp_path, monkeypatch, capsys
):
    good = str(folder / "00.png")
    (tmp_path / "empty").mkdir()
    (tmp_path / "list.csv").write_text(f"URIs,labels\n{good},cat\nhttps://x.y/a.png,cat\n,cat\na\n")
    (tmp_path / "nothing.csv").write_text("")
    (tmp_path / "damaged.tfrecord").write_bytes(b"\1\2\3" * 30)
    (tmp_path / "damaged.tar").write_bytes(b"no tar at all")
    (tmp_path / "damaged.parquet").write_bytes(b"PAR1")
    (tmp_path / "heic.png").write_bytes(b"\0\0\0\x18ftypheic")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "00").mkdir()
    (tmp_path / "00" / "x.png").write_bytes(b"x")
    lines = [good, str(tmp_path), "", "  ", "nul\0byte.png", "no/such.png", "https://x.y/b.jpg"]
    lines.append("00\\x.png")
    monkeypatch.setattr(sys, "stdin", io.StringIO("\r\n".join(lines)))
    paths = [
        "https://x.y/z.jpg", "ftp://a/b", tmp_path / "empty", tmp_path / "list.csv", "nul\0.png",
        tmp_path / "nothing.csv", tmp_path / "damaged.tfrecord", tmp_path / "damaged.tar",
        tmp_path / "damaged.parquet", tmp_path / "heic.png", tmp_path / "no such", "-", good,
    ]  # fmt: skip
    output = tmp_path / "out" / "out.jsonl"
    assert predict(*paths, "--output", output) == 1
    rows = rows_of(output)
    assert [row["uri"] for row in rows if not row["error"]] == [good] * 3
    errors = {row["uri"]: row["error"] for row in rows if row["error"]}
    at = str(tmp_path)
    for uri, reason in {
        "https://x.y/z.jpg": "https:// cannot be read",
        "https://x.y/a.png": "https:// cannot be read",
        "https://x.y/b.jpg": "https:// cannot be read",
        "ftp://a/b": "ftp:// cannot be read",
        f"{at}/empty": "this folder holds no images",
        f"{at}/list.csv line 4": "names no image",
        f"{at}/list.csv line 5": "1 cells, expected 2",
        "00\\x.png": "there is no such file, but there is 00/x.png",
        f"{at}/nothing.csv": "is empty",
        f"{at}/damaged.tfrecord": "",
        f"{at}/damaged.tar": "cannot be read as a tar file",
        f"{at}/damaged.parquet": "",
        f"{at}/heic.png": "HEIC",
        f"{at}/no such": "there is no such file",
        "no/such.png": "there is no such file",
        at: "this is a folder, expected an image",
        "nul\0byte.png": "null byte",
        "nul\0.png": "null byte",
    }.items():
        assert reason in errors.pop(uri), uri
    assert not errors
    error = capsys.readouterr().err
    assert error.count("bad: ") == 5 and f"{len(rows)} images, 18 of them bad" in error


def test_folders_with_links_and_lists_of_every_form_name_each_image_once(
    folder, shipped_run, tmp_path
):
    """As they come from other programs and file systems."""
    pictures = tmp_path / "pictures"
    for name in ("a/1.png", "a/b/2.png", "@eaDir/3.png", ".hidden/4.png", "a/.5.png"):
        (pictures / name).parent.mkdir(parents=True, exist_ok=True)
        (pictures / name).write_bytes(shipped_run.images[0])
    (pictures / "a" / "again").symlink_to(pictures)
    (pictures / "a" / "b" / "up").symlink_to("..")
    (pictures / "elsewhere").symlink_to(folder)
    assert predict(pictures, "--output", tmp_path / "o.csv") == 1
    names = [os.path.relpath(row["uri"], pictures) for row in rows_of(tmp_path / "o.csv")]
    assert names == ["a/1.png", "a/b/2.png", *(f"elsewhere/{i:02d}.png" for i in range(12))]
    expected = [str(pictures / "a" / "1.png"), str(pictures / "a" / "b" / "2.png")]
    for name, text in {
        "semicolons.csv": "filename;class\na/1.png;cat\na/b/2.png;dog\n",
        "tabs.tsv": "image\tlabel\na/1.png\tcat\na/b/2.png\tdog\n",
        "plain.txt": "a/1.png cat\na/b/2.png dog\n",
        "index.csv": ",path,label\n0,a/1.png,cat\n1,a/b/2.png,dog\n",
        "windows.csv": "\ufeffpath,label\r\na\\1.png,cat\r\na\\b\\2.png,dog\r\n",
    }.items():
        (pictures / name).write_text(text, encoding="utf-8", newline="")
        output = tmp_path / f"{name}.jsonl"
        assert predict(pictures / name, "--output", output) == 0, name
        assert [row["uri"] for row in rows_of(output)] == expected, name


def test_a_pattern_without_a_file_is_told_before_the_work(folder, monkeypatch, capsys):
    monkeypatch.setattr(predictor, "load_model", None)
    assert predict(folder, folder / "*.jpg") == 1
    assert "no file matches" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--output", "{folder}"), "expected a name ending"),
        (("--output", "{made}.csv"), "is a folder. Name a file in it"),
        (("{made}/list.csv", "--output", "{made}/list.csv"), "is one of the inputs"),
        (("--top_k", "0"), "top_k is 0"),
        (("--reject_below", "nan"), "--reject_below is nan"),
    ],
)
def test_a_wrong_line_is_told_before_the_work(
    folder, tmp_path, monkeypatch, capsys, arguments, message
):
    monkeypatch.setattr(predictor, "load_model", None)
    made = tmp_path / "made"
    made.mkdir()
    (tmp_path / "made.csv").mkdir()
    (made / "list.csv").write_text("x.png,cat\n")
    words = [word.format(folder=folder, made=made) for word in arguments]
    assert predict(folder, *words) == (1 if "is a folder" in message else 2)
    assert message in capsys.readouterr().err


def test_names_of_every_kind_come_back(folder, shipped_run, tmp_path, monkeypatch):
    names = ["a b.png", "ä\u0301.png", "line\nbreak.png", '"quoted", comma.png', "-dash.png"]
    names += ["*.png", "[0].png", "~.png", "trailing .png", " leading.png", "semi;colon.PNG"]
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for name in names:
        (pictures / name).write_bytes(shipped_run.images[0])
    monkeypatch.chdir(pictures)
    for kind in KINDS:
        output = tmp_path / f"out.{kind}"
        assert predict(pictures, "--output", output) == 0
        assert {os.path.basename(row["uri"]) for row in rows_of(output)} == set(names)
    given = [name for name in names if not name.startswith("-")]
    assert predict(*given, "--output", tmp_path / "one.csv") == 0
    assert [row["uri"] for row in rows_of(tmp_path / "one.csv")] == given
    monkeypatch.setenv("HOME", str(tmp_path))
    assert predict("~/pictures", "--output", "~/two.csv") == 0
    assert len(rows_of(tmp_path / "two.csv")) == len(names)


@pytest.mark.slow
def test_memory_stays_level_however_many_inputs_there_are(tmp_path, monkeypatch):
    """Eight times the rows take no more memory."""
    monkeypatch.setattr("tf_image_classification.serving.prediction_file._ROW_GROUP_SIZE", 200)
    label = predictor.LabelPrediction("cat", 0, 0.9, [0.9, 0.1], [("cat", 0.9), ("dog", 0.1)])
    model = types.SimpleNamespace(
        schema=LabelSchema((Label("kind", depth=2, class_names=("cat", "dog")),)),
        calibrations={},
        added_outputs=(),
        step=1,
        engine=types.SimpleNamespace(name="tensorflow"),
        fingerprint=lambda: "x",
        predict_each=lambda images, **how: (
            predictor.Prediction(name, {"kind": label}) for name, _ in images
        ),
    )
    monkeypatch.setattr(predictor, "load_model", lambda path, **_: model)
    peaks = []
    for count in (1_000, 1_000, 8_000):  # the first for what is kept for ever
        monkeypatch.setattr(sys, "stdin", (f"picture {i}.png\n" for i in range(count)))
        tracemalloc.start()
        assert predict("-", "--output", tmp_path / f"{len(peaks)}.parquet") == 0
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    table = parquet.read_table(tmp_path / "2.parquet")
    assert table.num_rows == 8_000 and table["uri"][7_999].as_py() == "picture 7999.png"
    assert peaks[2] < 2 * peaks[1], peaks


def test_a_model_that_says_no_number_gives_valid_json(tmp_path, monkeypatch):
    model = types.SimpleNamespace(
        schema=LabelSchema((Label("age", one_hot=False),)),
        calibrations={},
        added_outputs=(),
        step=1,
        engine=types.SimpleNamespace(name="tensorflow"),
        fingerprint=lambda: "x",
        predict_each=lambda images, **how: (
            predictor.Prediction(name, {"age": predictor.LabelPrediction("", np.nan)})
            for name, _ in images
        ),
    )
    monkeypatch.setattr(predictor, "load_model", lambda path, **_: model)
    assert predict("a.png", "--output", tmp_path / "out.jsonl") == 0
    assert rows_of(tmp_path / "out.jsonl") == [{"uri": "a.png", "error": "", "age": None}]


def shell(line, **more):
    command = f"{sys.executable} -m tf_image_classification.cli.main"
    return subprocess.run(
        line.format(tfic=command), shell=True, capture_output=True, text=True, **more
    )


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{tfic} predict m x.png >&-", "Standard output is closed"),
        ("{tfic} predict m - --output o.csv <&-", "Standard input is closed"),
    ],
)
def test_a_stream_that_is_needed_and_closed_is_told(line, message, tmp_path):
    done = shell(line, cwd=tmp_path)
    assert done.returncode == 1 and message in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.exhaustive
def test_a_real_process_with_closed_streams_pipes_and_kills(shipped_run, folder, tmp_path):
    """What the tests above imitate, once with processes."""
    model, at = shipped_run.model_dir, str(folder)
    done = shell(f"{{tfic}} predict {model} {at} --output {tmp_path}/a.csv <&- >&- 2>&-")
    assert done.returncode == 1 and len(rows_of(tmp_path / "a.csv")) == 12
    done = shell(f"{{tfic}} predict {model} {at} {at} {at} --batch_size 1 | head -2")
    assert done.stdout.count("\n") == 2 and "Traceback" not in done.stderr
    many = " ".join([at] * 400)
    done = shell(f"timeout -s KILL 25 {{tfic}} predict {model} {many} --output {tmp_path}/b.jsonl")
    done = shell(f"{{tfic}} predict {model} {many} --output {tmp_path}/b.jsonl --resume")
    assert done.returncode == 1 and len(rows_of(tmp_path / "b.jsonl")) == 4800
