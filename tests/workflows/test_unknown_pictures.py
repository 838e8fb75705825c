"""The score of unknown pictures from a training to its report."""

import contextlib
import json
import os
import shutil

import numpy as np
import pytest
import tensorflow as tf

from serving import shipped_run as making
from tf_image_classification import evaluate, train
from tf_image_classification.cli.main import main
from tf_image_classification.errors import ConfigError
from tf_image_classification.export.request import ExportRequest
from tf_image_classification.labels import Label
from tf_image_classification.model_folder import ModelFolder
from tf_image_classification.serving import predictor
from tf_image_classification.workflows import unknown
from tf_image_classification.workflows.export import export_folder
from tf_image_classification.workflows.report import write_report
from tiny_runs import plain_spec, tiny_settings, write_records

pytestmark = pytest.mark.as_installed


@pytest.fixture
def run(shipped_folder, tmp_path):
    """A copy of the run that other tests share, with the detector of its evaluation."""
    return making.find(shutil.copytree(shipped_folder, tmp_path / "run"))


def facts(folder):
    with open(ModelFolder(str(folder)).unknown, encoding="utf-8") as stream:
        return json.load(stream)


@contextlib.contextmanager
def changed_manifest(folder):
    """The content of run.json, which is written again after the block."""
    with open(folder.manifest, encoding="utf-8") as stream:
        content = json.load(stream)
    yield content
    with open(folder.manifest, "w", encoding="utf-8") as stream:
        json.dump(content, stream)


def test_a_training_ends_with_the_score_and_its_evaluation_sets_the_limit(run):
    found = facts(run.model_dir)
    assert found["limit"]["count"] == 90 and found["num_train"] == 60
    assert found["distances"] == ["neighbours", "mahalanobis"]
    assert found["choice"]["protocol"] == "classes left out of the training set"
    detector = predictor.load_model(run.model_dir).detector
    refused = (detector.known_scores > 1).sum()
    assert refused == 3  # the limit is the 87th of 90: 91 x 0.95, rounded up
    scores = [one.unknown_score for one in predictor.load_model(run.model_dir).predict(run.images)]
    np.testing.assert_allclose(scores, detector.known_scores[: len(scores)], rtol=1e-4)


def test_an_evaluation_that_is_kept_moves_the_limit_and_one_that_is_not_leaves_it(run, capsys):
    before = facts(run.model_dir)
    other = write_records(run.folder, "other", count=120, seed=5)
    evaluate(None, run.settings.replace(eval_metadata=(other,)), keep_evaluation="no")
    assert facts(run.model_dir) == before
    evaluate(None, run.settings.replace(eval_metadata=(other,), unknown_rate=0.1))
    assert "limit for at most 0.1 of known pictures, by 120 evaluation examples" in (
        capsys.readouterr().out
    )
    after = facts(run.model_dir)
    assert after["limit"]["rate"] == 0.1 and after["data"] != before["data"]
    assert after["num_train"] == 60  # the distances are those of the training


@pytest.mark.slow
def test_an_evaluation_fits_a_model_without_a_score_where_the_training_set_is_there(run, caplog):
    folder = ModelFolder(run.model_dir)
    os.remove(folder.unknown)
    with changed_manifest(folder) as manifest:
        there = manifest["settings"]["train_metadata"]
        manifest["settings"]["train_metadata"] = [str(run.folder / "gone-*")]
    evaluate(None, run.settings)
    assert facts(run.model_dir)["none"] == "the training set cannot be read"
    assert "training examples cannot be read" in caplog.text
    with changed_manifest(folder) as manifest:
        manifest["settings"]["train_metadata"] = there
    evaluate(None, run.settings)
    assert facts(run.model_dir)["num_train"] == 60


@pytest.mark.slow
def test_a_longer_training_gets_its_own_score_and_a_kill_before_it_is_made_up_for(run, monkeypatch):
    before = facts(run.model_dir)
    spec = making.TinyMaps()
    with monkeypatch.context() as patch:
        patch.setattr(unknown, "fit_detector", lambda *given, **named: "")  # killed before it
        train(spec, run.settings.replace(train_steps=12))
        assert not os.path.exists(ModelFolder(run.model_dir).unknown)
    train(spec, run.settings.replace(train_steps=12))
    after = facts(run.model_dir)
    assert after["step"] == 12 and after["saved_model"] != before["saved_model"]
    assert predictor.load_model(run.model_dir).detector is not None


@pytest.mark.slow
def test_unknown_examples_choose_and_are_measured_and_reported(run, capsys):
    pictures = run.folder / "noise"
    pictures.mkdir()
    random = np.random.RandomState(3)
    for number in range(24):
        pixels = np.repeat(random.randint(0, 256, [8, 8, 1], np.uint8), 3, axis=2)
        pixels[4:] = 255 - pixels[4:]
        (pictures / f"{number}.png").write_bytes(tf.io.encode_png(pixels).numpy())
    evaluate(None, run.settings.replace(unknown_examples=(str(pictures),)))
    assert (
        "12 unknown examples, not those that chose the distance: AUROC" in capsys.readouterr().out
    )
    found = facts(run.model_dir)
    assert found["choice"]["protocol"] == "12 unknown examples and 45 of the evaluation"
    assert found["unknown_examples"]["auroc"]["value"] > 0.9
    page, card = write_report(run.settings, is_inspected=False)
    with open(page, encoding="utf-8") as stream:
        html = stream.read()
    assert "Pictures of none of the classes" in html and "Refused evaluation examples" in html
    assert "Refused by class" in html and "12 unknown examples: AUROC" in html
    with open(card, encoding="utf-8") as stream:
        assert "## Pictures of none of the classes" in stream.read()


@pytest.mark.slow
@pytest.mark.exhaustive_after(1)
@pytest.mark.parametrize("name", ["onnx", "litert", "saved_model", "mlflow", "huggingface"])
def test_an_export_carries_the_score_and_is_compared_with_it(run, name):
    exported = export_folder(run.settings, ExportRequest(name, num_examples=20))
    with open(os.path.join(exported.path, "model.json"), encoding="utf-8") as stream:
        described = json.load(stream)["unknown"]
    assert described["limit"] == 1.0 and described["rate"] == 0.05
    if name in ("mlflow", "huggingface"):
        there = os.path.join(exported.path, *(["model"] if name == "mlflow" else []))
        assert predictor.load_model(there).detector is not None
    else:
        assert exported.verification.added["unknown_score"] < 1e-3


@pytest.mark.slow
def test_a_quantised_export_has_the_reason_why_there_is_none(run):
    exported = export_folder(run.settings, ExportRequest("litert", "dynamic", 20, None, 1.0))
    with open(os.path.join(exported.path, "model.json"), encoding="utf-8") as stream:
        assert "quantised features" in json.load(stream)["unknown"]["none"]
    assert exported.verification.added == {}


@pytest.mark.slow
@pytest.mark.exhaustive_after(1)
@pytest.mark.parametrize("labels", ["one class", "regression", "rare class"])
def test_labels_at_the_edge(tmp_path, labels):
    class Spec(type(plain_spec())):
        pass

    spec = Spec(noise=0.0, batch_norm=False)
    kinds = {"one class": lambda n, k: 0, "rare class": lambda n, k: int(n == 7)}
    if labels == "regression":
        spec.class_dict = [Label("kind", kind="regression")]
        spec.depth = 1
    else:
        spec.class_dict = [Label("kind", depth=2, class_names=("a", "b"))]
        spec.depth = 2
    value = kinds.get(labels, lambda n, k: k + 0.5)
    sets = [
        write_records(
            tmp_path,
            name,
            count=count,
            seed=count,
            labels=lambda n, k: {"kind": float(value(n, k))},
        )
        for name, count in (("train", 30), ("eval", 24))
    ]
    settings = tiny_settings(tmp_path / "m", *sets, train_steps=2, export_saved_model=True)
    train(spec, settings)
    found = facts(tmp_path / "m")
    assert found["limit"]["count"] == 24 and found["choice"]["name"] in found["distances"]
    assert ("mahalanobis" in found["distances"]) == (labels != "regression")


def test_the_options_reject_what_cannot_be_meant(run, capsys):
    with pytest.raises(ConfigError, match=r"unknown_rate is 5.0, expected .* e.g. 0.05 for 5 %"):
        run.settings.replace(unknown_rate=5.0)
    with pytest.raises(SystemExit, match="2"):
        main(["evaluate", run.model_dir, "--unknown_rate", "5"])
    assert "0.05 for 5 %" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="unknown_examples: .*nowhere cannot be used"):
        evaluate(None, run.settings.replace(unknown_examples=("nowhere",)))


@pytest.mark.slow
def test_unknown_examples_of_the_training_that_are_gone_are_a_warning(run, caplog):
    """As where the model folder was moved: only those that are given now must be there."""
    with changed_manifest(ModelFolder(run.model_dir)) as manifest:
        manifest["settings"]["unknown_examples"] = ["gone"]
        manifest["origins"]["unknown_examples"] = "flag"
    evaluate(None, run.settings)
    assert "without the training's unknown examples" in caplog.text
    assert facts(run.model_dir)["limit"]["count"] == 90


def test_without_a_rate_there_is_no_score(run, capsys):
    evaluate(None, run.settings.replace(unknown_rate=0.0))
    assert "unknown:" not in capsys.readouterr().out
    assert facts(run.model_dir)["none"] == "unknown_rate is 0"
    assert predictor.load_model(run.model_dir).added_outputs == ()
