"""What a model folder keeps of evaluations, and what takes its place."""

import pathlib

import pytest

from serving import shipped_run
from tf_image_classification import evaluate
from tf_image_classification.config import make_settings
from tf_image_classification.errors import DataError
from tf_image_classification.evaluation.predictions import read_predictions
from tf_image_classification.model_folder import ModelFolder
from tf_image_classification.runs.reporting import write_report
from tf_image_classification.runs.shipping import Wish, export_folder
from tiny_runs import write_records

KEPT = ("predictions.parquet", "judgement.json", "calibration.json")


@pytest.fixture
def run(tmp_path):
    return shipped_run.make(tmp_path)


def contents(run):
    return [pathlib.Path(run.model_dir, name).read_bytes() for name in KEPT]


def test_what_was_evaluated_last_is_reported_and_compared_and_stays(run):
    other = write_records(run.folder, "test", count=30, seed=2)
    given = {"model_dir": run.model_dir, "cache_dir": run.settings.data.cache_dir}
    evaluate(None, make_settings(given | {"eval_metadata": [other]}))
    before = contents(run)
    cache = run.settings.data.cache_dir
    _, card = write_report(make_settings(given), cache, is_inspected=False)
    assert "on 30 examples" in pathlib.Path(card).read_text()
    shipped = export_folder(make_settings(given), Wish("saved_model", num_examples=5), cache)
    assert shipped.parity.num_examples == 5
    held_out = make_settings(given | {"eval_metadata": [run.evaluation]})
    export_folder(held_out, Wish("saved_model", num_examples=5), cache)
    assert contents(run) == before
    _, card = write_report(held_out, cache, is_inspected=False)
    assert "on 90 examples" in pathlib.Path(card).read_text()
    assert len(read_predictions(ModelFolder(run.model_dir).predictions)) == 90


def test_an_evaluation_of_something_else_than_the_trained_model_is_not_kept(run, caplog):
    before = contents(run)
    evaluate(shipped_run.TinyMaps(), run.settings.replace(precision="mixed_bfloat16"))
    assert "precision is mixed_bfloat16, was float32" in caplog.text
    assert contents(run) == before
    evaluate(shipped_run.TinyMaps(), run.settings)
    assert len(read_predictions(ModelFolder(run.model_dir).predictions)) == 90


def test_an_evaluation_set_that_is_no_longer_there_is_told_to_be_the_folders_own(run):
    for path in pathlib.Path(run.evaluation).parent.glob(pathlib.Path(run.evaluation).name):
        path.unlink()
    given = {"model_dir": run.model_dir, "cache_dir": run.settings.data.cache_dir}
    with pytest.raises(DataError, match=r"model names it so; give --eval_metadata"):
        evaluate(None, make_settings(given))
    with pytest.raises(DataError, match=r"no file matches .* not expand it[.]$"):
        evaluate(None, make_settings(given | {"eval_metadata": [run.evaluation]}))
