"""What a model folder keeps of evaluations, and what takes its place."""

import ctypes
import json
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

from serving import shipped_run
from tf_image_classification import evaluate, load_model
from tf_image_classification.cli import evaluate as evaluate_verb
from tf_image_classification.config import make_settings
from tf_image_classification.errors import ConfigError, DataError
from tf_image_classification.evaluation.predictions import read_predictions
from tf_image_classification.export.request import ExportRequest
from tf_image_classification.model_folder import ModelFolder
from tf_image_classification.workflows.export import export_folder
from tf_image_classification.workflows.report import write_report
from tiny_runs import write_records

KEPT = ("predictions.parquet", "judgement.json", "calibration.json")


@pytest.fixture
def run(shipped_folder, tmp_path):
    """The evaluated run with a model folder that a test may change."""
    return shipped_run.find(shutil.copytree(shipped_folder, tmp_path / "data"))


def contents(run):
    return [pathlib.Path(run.model_dir, name).read_bytes() for name in KEPT]


def count_kept(run):
    return len(read_predictions(ModelFolder(run.model_dir).predictions))


def given(run, evaluation=None):
    found = {"model_dir": run.model_dir, "cache_dir": run.settings.data.cache_dir}
    return make_settings(found | ({"eval_metadata": [evaluation]} if evaluation else {}))


@pytest.mark.slow
def test_what_was_evaluated_last_is_reported_and_compared_and_stays(run, capsys):
    other = write_records(run.folder, "test", count=60, seed=2)
    evaluate(None, given(run, other))
    assert "hold this evaluation of 60 examples, and replace those of 90 other examples" in (
        capsys.readouterr().out
    )
    before = contents(run)
    _, card = write_report(given(run), is_inspected=False)
    assert "on 60 examples" in pathlib.Path(card).read_text()
    exported = export_folder(given(run), ExportRequest("saved_model", num_examples=5))
    assert exported.verification.num_examples == 5
    export_folder(given(run, run.evaluation), ExportRequest("saved_model", num_examples=5))
    assert contents(run) == before
    _, card = write_report(given(run, run.evaluation), is_inspected=False)
    assert "on 90 examples" in pathlib.Path(card).read_text()
    assert count_kept(run) == 90


@pytest.mark.slow
def test_a_small_evaluation_does_not_take_the_folders_calibration(run, capsys, caplog):
    few = write_records(run.folder, "few", count=6, seed=3)
    before, calibrated = contents(run), load_model(run.model_dir).calibrations
    evaluate(None, given(run, few))
    printed = capsys.readouterr().out
    assert "evaluation of step 8 on 6 examples" in printed
    assert "not kept: label kind has 6 labelled examples, too few to calibrate" in printed
    assert "still use the evaluation of 90 examples. --keep_evaluation yes" in printed
    assert contents(run) == before and load_model(run.model_dir).calibrations == calibrated
    lines = pathlib.Path(run.model_dir, "evaluations.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["num_examples"] == 6  # listed all the same

    export_folder(given(run, few), ExportRequest("saved_model"))
    assert "evaluated 6 examples; not kept" in caplog.text
    assert "was verified on 6 examples only" in caplog.text
    assert contents(run) == before


@pytest.mark.slow
def test_a_flag_says_whether_an_evaluation_becomes_the_folders_own(run, capsys):
    few = write_records(run.folder, "few", count=6, seed=3)
    line = ["--model_dir", run.model_dir, "--eval_metadata", few]
    line += ["--cache_dir", run.settings.data.cache_dir]
    before = contents(run)
    evaluate_verb.main([*line, "--keep_evaluation", "no"])
    assert "not kept (--keep_evaluation no)" in capsys.readouterr().out and contents(run) == before
    evaluate_verb.main([*line, "--keep_evaluation=no", "--json"])
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    assert found["step"] and 0 <= found["metrics"]["accuracy"] <= 1
    assert found["analysis"]["num_examples"] == 6 and "evaluation of step" in captured.err
    evaluate_verb.main([*line, "--keep_evaluation=no", "--quiet"])
    captured = capsys.readouterr()
    assert "accuracy" in captured.out and "not kept" not in captured.out and not captured.err
    evaluate_verb.main([*line, "--keep_evaluation=yes"])
    printed = capsys.readouterr().out
    assert "The calibration of label kind was removed: label kind has 6 lab" in printed
    assert count_kept(run) == 6 and load_model(run.model_dir).calibrations == {}
    with pytest.raises(SystemExit):
        evaluate_verb.main([*line, "--keep_evaluation", "never"])
    assert "keep_evaluation is 'never', expected one of auto, yes, no" in capsys.readouterr().err


def test_the_first_evaluation_is_kept_however_small_and_says_so(run, capsys):
    for name in KEPT:
        pathlib.Path(run.model_dir, name).unlink()
    evaluate(None, given(run, write_records(run.folder, "few", count=6, seed=3)))
    printed = capsys.readouterr().out
    assert (
        "hold this evaluation of 6 examples. Not calibrated: label kind has 6 labelled" in printed
    )
    assert count_kept(run) == 6 and load_model(run.model_dir).calibrations == {}


@pytest.mark.slow
def test_an_evaluation_of_something_else_than_the_trained_model_is_not_kept(run, capsys):
    before = contents(run)
    other = run.settings.replace(precision="mixed_bfloat16")
    evaluate(shipped_run.TinyMaps(), other)
    assert "precision is mixed_bfloat16, was float32" in capsys.readouterr().out
    assert contents(run) == before
    with pytest.raises(ConfigError, match="keep_evaluation is yes, but the evaluation is not kept"):
        evaluate(shipped_run.TinyMaps(), other, keep_evaluation="yes")
    evaluate(shipped_run.TinyMaps(), run.settings)
    assert count_kept(run) == 90


@pytest.mark.slow
def test_an_evaluation_set_that_is_no_longer_there_is_told_to_be_the_folders_own(run):
    path = pathlib.Path(run.model_dir, "run.json")
    moved = run.evaluation.replace("eval-", "moved-")
    path.write_text(path.read_text().replace("/eval-", "/moved-"))
    with pytest.raises(DataError, match=r"model names this evaluation set; give eval_metadata"):
        evaluate(None, given(run))
    with pytest.raises(DataError, match=r"no file matches .* not expand it[.]$"):
        evaluate(None, given(run, moved))


def without_roots_right_to_write_everywhere():
    """In a child process, before it runs; does nothing where the process is not root's."""
    drop_from_bounding_set, may_override_permissions = 24, 1
    ctypes.CDLL(None).prctl(drop_from_bounding_set, may_override_permissions, 0, 0, 0)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="root's rights are taken away as on Linux")
def test_a_folder_that_cannot_be_written_gives_its_result_all_the_same(run):
    for folder, _, names in os.walk(run.model_dir):
        for path in (folder, *(os.path.join(folder, name) for name in names)):
            os.chmod(path, os.stat(path).st_mode & 0o555)
    line = ["evaluate", "--model_dir", run.model_dir, "--eval_metadata", run.evaluation]
    line += ["--cache_dir", run.settings.data.cache_dir]
    program = f"""
from tf_image_classification.cli.main import main
for more in [], ["--keep_evaluation", "yes"]:
    try:
        print("status", main([*{line!r}, *more]))
    except SystemExit as error:
        print("status", error.code)
"""
    before = contents(run)
    found = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        preexec_fn=without_roots_right_to_write_everywhere,
    )
    unasked, asked = found.stdout.split("status 0\n")
    assert "evaluation of step 8 on 90 examples" in unasked
    assert "accuracy" in unasked and "not kept: " in unasked
    assert "accuracy" in asked and asked.endswith("status 1\n")
    assert found.stderr.count("DataError: ") == 1 and "Traceback" not in found.stderr
    assert contents(run) == before
