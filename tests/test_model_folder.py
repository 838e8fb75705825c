"""The files of a model folder that are damaged, stale or gone."""

import dataclasses
import errno
import json
import os
import subprocess
import sys

import pytest

from tf_image_classification.config import make_settings
from tf_image_classification.errors import CheckpointError, RunMismatchError
from tf_image_classification.labels import Label, LabelSchema
from tf_image_classification.model_folder import ModelFolder
from tf_image_classification.run_manifest import ARITHMETIC, make_manifest
from tf_image_classification.system import faults, files

LINES = [{"step": 2, "loss": 0.5}, {"step": 4, "loss": 0.25}, {"step": 6, "loss": 0.125}]


def record_of(folder):
    return make_manifest(
        spec="a.py:Spec", spec_source="", schema=LabelSchema((Label("kind", depth=2),)),
        train_data="t", num_train_examples=3, eval_data="",
        settings=make_settings({"train_metadata": ["t"], "model_dir": folder.path}),
    )  # fmt: skip


def cut_off(data):
    """The last line is half there, as when the machine failed while it was written."""
    return data[: data.rindex(b"step") + 2]


DAMAGES = {
    "half a line at the end": (cut_off, [2, 4]),
    "zeros at the end": (lambda data: cut_off(data) + bytes(20), [2, 4]),
    "a line of bytes": (lambda data: data.replace(b'{"step": 4', b"\xff\xfe\x00"), [2, 6]),
    "a line of something else": (lambda data: data + b"[1, 2]\n", [2, 4, 6]),
    "a line without a step": (lambda data: data + b'{"loss": 1}\n', [2, 4, 6]),
    "nothing but zeros": (lambda data: bytes(len(data)), []),
    "nothing": (lambda data: b"", []),
    "a mark at the beginning": (lambda data: b"\xef\xbb\xbf" + data, [2, 4, 6]),
}
WHOLE = ("nothing", "a mark at the beginning")


@pytest.mark.parametrize("damage", DAMAGES)
def test_lines_that_are_damaged_are_left_out_with_a_warning(tmp_path, damage, caplog):
    folder = ModelFolder(str(tmp_path))
    change, left = DAMAGES[damage]
    folder.write_evaluations(LINES)
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(change(path.read_bytes()))
    assert [line["step"] for line in folder.evaluations()] == left
    assert len(caplog.records) == (damage not in WHOLE)
    if caplog.records:
        assert f"{path} is damaged and is used without line" in caplog.text
    folder.write_evaluations([*folder.evaluations(), {"step": 8}])
    caplog.clear()
    assert [line["step"] for line in folder.evaluations()] == [*left, 8]
    assert not caplog.records  # whoever adds a line has repaired the file


@pytest.mark.parametrize(
    "content",
    [
        b"", b"\x00\x00\x00", b"\xff\xd8\xff\xe0", b"[]", b"{}", b"null", b'{"spec": "a',
        b'{"spec": "a.py:Spec", "spec_source": "", "labels": [{"name": "kind", "depth": -3}], '
        b'"train_data": "t", "num_train_examples": 3, "eval_data": "", "settings": {}, '
        b'"origins": {}}',
    ],
)  # fmt: skip
def test_a_damaged_record_is_named_with_what_to_do(tmp_path, content):
    folder = ModelFolder(str(tmp_path))
    (tmp_path / "run.json").write_bytes(content)
    with pytest.raises(CheckpointError, match="run.json is damaged: .* remove it and start the"):
        folder.read_manifest()


def test_the_manifest_of_an_older_version_says_so(tmp_path):
    folder = ModelFolder(str(tmp_path))
    folder.write_manifest(record_of(folder))
    assert folder.read_manifest().arithmetic == ARITHMETIC
    values = json.loads((tmp_path / "run.json").read_text())
    del values["arithmetic"]
    (tmp_path / "run.json").write_text(json.dumps(values))
    assert folder.read_manifest().arithmetic == 0


def test_a_folder_that_was_removed_gets_its_record_again(tmp_path, caplog):
    folder = ModelFolder(str(tmp_path / "model"))
    record = record_of(folder)
    folder.put_back(record)
    assert "was removed while the run trains in it" in caplog.text
    assert folder.read_manifest() == record
    caplog.clear()
    folder.put_back(record)
    assert not caplog.records


def test_the_lock_of_a_process_that_is_gone_or_of_another_machine_holds_nobody(tmp_path):
    """The file says who has it; the lock itself ends with its process."""
    program = (
        "import os, sys\n"
        "from tf_image_classification.model_folder import ModelFolder\n"
        "with ModelFolder(sys.argv[1]).locked():\n"
        "    print('locked', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as holder:  # fmt: skip
        assert holder.stdout.readline() == "locked\n"
        who = rf"Another process \({holder.pid} on {os.uname().nodename}\) is training in"
        with pytest.raises(RunMismatchError, match=who), ModelFolder(str(tmp_path)).locked():
            pass
        holder.kill()
        holder.wait()
    for left in (None, b"4711 on another-machine\n", b"\xff\xfe\x00"):
        if left is not None:
            (tmp_path / ".lock").write_bytes(left)
        with ModelFolder(str(tmp_path)).locked():
            assert (tmp_path / ".lock").read_text().startswith(f"{os.getpid()} on ")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device", "a"),
            "'a': No space left on device. Make",
        ),
        (OSError(errno.EMFILE, "Too many open files"), "Too many open files. Raise the limit"),
        (
            RuntimeError("x.npy; No space left on device"),
            "x.npy; No space left on device. Make room",
        ),
        (ValueError("shapes differ"), ""),
    ],
)
def test_what_the_machine_is_to_blame_for_is_known_from_errors_of_any_kind(error, words):
    assert faults.system_problem(error).startswith(words)
    assert bool(faults.system_problem(error)) == bool(words)
    try:
        raise KeyError("converter") from error
    except KeyError as caused:
        assert faults.system_problem(caused).startswith(words)


def test_json_lines_that_nobody_can_repair_are_refused(tmp_path):
    path = tmp_path / "trials.jsonl"
    path.write_text(json.dumps({"a": 1}) + '\n{"a": ')
    with pytest.raises(files.DataError, match=r"trials.jsonl is damaged: line 2: \{\"a\":"):
        files.read_json_lines(str(path))


def test_label_kinds_are_the_same_setting_under_their_earlier_names(tmp_path):
    start = record_of(ModelFolder(str(tmp_path)))

    def manifest(*kinds):
        return dataclasses.replace(start, settings={**start.settings, "label_kinds": kinds})

    earlier, now = manifest("tags=several"), manifest("tags=multilabel")
    assert earlier.differences(now) == [] and earlier.digest() == now.digest()
    assert earlier.differences(manifest("tags=ordinal")) == [
        "label_kinds: ['tags=multilabel'] there, ['tags=ordinal'] now"
    ]
