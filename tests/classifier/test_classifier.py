"""The model object that train and load_model return."""

import os
import pickle
import shutil
import sys
import types

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import tf_image_classification as tfic
from serving.shipped_run import NAMES, TinyMaps
from serving.shipped_run import find as shipped_run_of
from tf_image_classification import train_estimator
from tf_image_classification.classifier import Classifier, ReportPage, training
from tf_image_classification.classifier.options import settings_of
from tf_image_classification.errors import (
    BadImageError,
    CheckpointError,
    ConfigError,
    DataError,
    UsageError,
)
from tf_image_classification.system import notebook
from tf_image_classification.workflows.result import TrainResult
from tiny_runs import plain_spec


@pytest.fixture(scope="module")
def model(shipped_run):
    """The model of a finished run: the same call as that of its training."""
    return tfic.train(TinyMaps(), shipped_run.settings)


@pytest.fixture(scope="module")
def pixels(shipped_run):
    return np.stack([tf.io.decode_png(data).numpy() for data in shipped_run.images[:6]])


def test_it_is_the_result_of_the_training(model, shipped_run):
    assert isinstance(model, Classifier) and isinstance(model, TrainResult)
    assert model.model_dir == shipped_run.model_dir and model.step == 8
    assert model["accuracy"] == model.metrics["accuracy"] == dict(model)["accuracy"]
    assert model.classes == NAMES
    assert repr(model).startswith(f"Classifier({shipped_run.model_dir!r}, step=8, loss=")
    assert "accuracy" in model._repr_html_()


@pytest.mark.slow
def test_a_loaded_model_is_the_same_object(model, shipped_run, pixels):
    loaded = tfic.load_model(shipped_run.folder / "model")
    assert type(loaded) is Classifier and loaded.classes == NAMES
    assert loaded.metrics == model.metrics
    assert loaded.predict(pixels) == model.predict(pixels)
    assert loaded.fingerprint() == model.fingerprint()
    copy = pickle.loads(pickle.dumps(loaded))
    assert copy.predict(pixels) == loaded.predict(pixels)


def test_images_of_every_form_are_predicted_alike(model, pixels, tmp_path):
    for i, image in enumerate(pixels):
        Image.fromarray(image).save(tmp_path / f"{i}.png")
    paths = [tmp_path / f"{i}.png" for i in range(6)]
    expected = [one.labels for one in model.predict(pixels)]
    forms = [
        tmp_path,
        f"{tmp_path}/*.png",
        paths,
        list(pixels),
        (pixels / 255).astype(np.float32),
        pixels.astype(np.float64),
        tf.constant(pixels),
        [Image.fromarray(image) for image in pixels],
        (path.read_bytes() for path in paths),
        [str(paths[0]), *pixels[1:]],
        np.concatenate([pixels, np.full_like(pixels[..., :1], 255)], axis=-1),
    ]
    for form in forms:
        assert [one.labels for one in model.predict(form)] == expected
    assert [one.uri for one in model.predict(tmp_path)] == list(map(str, paths))
    for one in (
        paths[0],
        str(paths[0]),
        pixels[0],
        Image.fromarray(pixels[0]),
        paths[0].read_bytes(),
    ):
        [found] = model.predict(one)
        probabilities = expected[0]["kind"].probabilities
        np.testing.assert_allclose(found.labels["kind"].probabilities, probabilities, rtol=1e-5)
    assert len(model.predict(pixels[..., 0])) == 6 and len(model.predict(pixels[0, ..., 0])) == 1


def test_what_is_no_image_is_named(model, tmp_path):
    (tmp_path / "empty").mkdir()
    given = ["none.png", str(tmp_path / "empty"), np.zeros([3, 8, 8]), None, np.full([8, 8], -1.0)]
    errors = [one.error for one in model.predict(given)]
    assert errors[0] == "there is no such file" and "no images" in errors[1]
    assert "expected [h, w]" in errors[2] and "expected a path or an image" in errors[3]
    assert "from -1 to -1, expected from 0 to 255 or from 0 to 1" in errors[4]
    for wrong, message in ((7, "images is int"), (np.zeros(5), r"images is ndarray \[5\]")):
        with pytest.raises(DataError, match=message):
            model.predict(wrong)
    with pytest.raises(DataError, match="none-"):
        model.predict(f"{tmp_path}/none-*.png")


def test_predictions_show_themselves_as_a_table(model, pixels):
    found = model.predict([pixels[0], "<b>.png"])
    kind = found[0].labels["kind"]
    head, row, bad = repr(found).splitlines()
    assert head.split() == ["image", "kind", "probability", "next", "unknown_score"]
    assert row.split()[:3] == ["0", kind.name, f"{kind.probability:.2f}"]
    assert bad.split()[:2] == ["<b>.png", "error:"]
    assert "<td>&lt;b&gt;.png</td>" in found._repr_html_()
    assert found.to_pandas()["kind"].iloc[0] == kind.name
    assert found[:1][0] == found[0]
    assert [line.split() for line in repr(found[:1]).splitlines()] == [head.split(), row.split()]
    assert repr(model.predict([])) == "image"
    assert repr(model.predict([pixels[0]] * 30)).endswith("... and 10 more")


def test_features_are_what_the_last_layer_takes(model, pixels):
    features = model.embed(pixels)
    assert features.shape == (6, 8 * 8 * 8) and features.dtype == np.float32
    dense = model.model.get_layer("logits")
    prepared = tf.stack([model.prepare(image) for image in pixels])
    logits = model.model(prepared, training=False).numpy()
    np.testing.assert_allclose(dense(features).numpy(), logits, rtol=1e-5, atol=1e-5)
    found = [one.labels["kind"].name for one in model.predict(pixels)]
    assert [NAMES[k] for k in logits.argmax(axis=1)] == found
    with pytest.raises(BadImageError, match=r"none.png: "):
        model.embed(["none.png"])
    assert model.embed([]).shape == (0, 0)


def test_the_spec_is_needed_for_the_keras_model_of_a_loaded_run(shipped_run):
    with pytest.raises(ConfigError, match="is built by the spec .*TinyMaps. Call train with that"):
        _ = tfic.load_model(shipped_run.model_dir).model


def test_history_has_curves_and_evaluations(model):
    history = model.history
    assert history["step"][-1] == 8 and history["accuracy"][-1] == model.metrics["accuracy"]
    frame = history.to_pandas()
    assert list(frame.columns) == list(history) and len(frame) == len(history.rows)
    axes = history.plot(["accuracy"]).axes
    assert axes[0].get_title() == "accuracy"
    assert history._repr_html_().startswith('<img alt="curves of the training" src="data:image/png')
    with pytest.raises(KeyError, match="Did you mean accuracy"):
        history["acuracy"]


@pytest.fixture
def own_run(shipped_folder, tmp_path):
    """A copy of the run that a test may change."""
    return shipped_run_of(shutil.copytree(shipped_folder, tmp_path / "run"))


def test_evaluation_of_arrays(own_run, tmp_path, capsys):
    model = tfic.load_model(own_run.model_dir)
    images = np.stack([tf.io.decode_png(data).numpy() for data in own_run.images[:60]])
    names = [one.labels["kind"].name for one in model.predict(images)]
    result = model.evaluate((images, {"kind": names}), cache_dir=tmp_path / "cache")
    assert result["accuracy"] == 1.0 and "accuracy" in capsys.readouterr().out


@pytest.mark.slow
def test_report_and_export(own_run):
    model = tfic.load_model(own_run.model_dir)
    page = model.report(inspect=False)
    assert isinstance(page, ReportPage) and os.fspath(page) == f"{own_run.model_dir}/report.html"
    assert page._repr_html_().startswith('<iframe srcdoc="&lt;!doctype html')
    assert os.path.exists(page.model_card)
    exported = model.export("SavedModel", examples=10)
    assert os.path.isdir(exported.path)


def test_a_format_that_does_not_exist(model):
    with pytest.raises(UsageError, match="Did you mean onnx"):
        model.export("onxx")


def test_a_folder_that_has_no_model(tmp_path):
    with pytest.raises(CheckpointError, match="is not there"):
        tfic.load_model(tmp_path / "none")
    with pytest.raises(CheckpointError):
        Classifier(TrainResult(str(tmp_path / "none"), 0, {})).predict("cat.jpg")
    assert "none" in Classifier(TrainResult(str(tmp_path / "none"), 0, {}))._repr_html_()


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((), {"epochs": 3}, r"nothing to train on. Give the examples: train\('pets'\)"),
        ((np.zeros([2, 4, 4]), np.zeros(2)), {}, r"train\(\(images, labels\)\)"),
        (("a", "b"), {}, r"train\(data, eval_metadata='b'\)"),
        (("a", {"epochs": 3}), {}, r"train\(data, epochs=3\)"),
        (("a",), {"epoch": 3}, "Unknown setting 'epoch'.*Use epochs"),
        (("a",), {"val": "b", "eval_metadata": "c"}, "two names of one setting"),
        (("a",), {"batch_size": "many"}, "expected a whole number"),
        ((plain_spec(),), {"spec": plain_spec()}, "two specs"),
    ],
)
def test_wrong_calls_are_errors_of_the_package_with_the_right_call(arguments, options, message):
    with pytest.raises(ConfigError, match=message):
        tfic.train(*arguments, **options)


def test_data_that_are_missing_are_an_error_and_no_exit(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for data in ("pets/", tmp_path / "pets", ["a/*.tfrecord"], tmp_path / "pets.csv"):
        with pytest.raises(DataError):
            tfic.train(data)
    with pytest.raises(DataError, match="the same for all examples"):
        tfic.train((np.zeros([4, 8, 8], np.uint8) + 99, ["cat"] * 4))
    assert not os.path.exists("models")


def test_train_takes_the_folders_of_a_job_of_vertex(tmp_path, monkeypatch):
    begun = []
    monkeypatch.setattr(training, "run_backbone", lambda settings, hooks: begun.append(settings))
    monkeypatch.setattr(training, "Classifier", lambda result: result)
    for name in ("MODEL", "CHECKPOINT"):
        monkeypatch.setenv(f"AIP_{name}_DIR", f"gs://b/job/{name.lower()}")
    tfic.train("pets")
    tfic.train("pets", model_dir="m")
    tfic.train("pets", tfic.make_settings({"epochs": 3}), batch_size=8)
    folders = [(settings.run.model_dir, settings.checkpoints.export_dir) for settings in begun]
    assert folders == [
        ("gs://b/job/checkpoint", "gs://b/job/model"), ("m", "gs://b/job/model"), ("./models", ""),
    ]  # fmt: skip
    assert settings_of({}).run.model_dir == "./models"  # of an evaluation


def in_a_notebook(monkeypatch):
    """As in a cell: a shell with a kernel, whose program is not the user's."""
    shell = types.SimpleNamespace(kernel=object())
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))
    monkeypatch.delattr(sys.modules["__main__"], "__file__", raising=False)
    monkeypatch.setattr(sys, "argv", ["ipykernel_launcher.py", "-f", "kernel.json"])


def test_a_notebook_has_no_command_line(monkeypatch):
    assert not notebook.is_notebook() and not notebook.is_interactive()
    with monkeypatch.context() as patch:
        in_a_notebook(patch)
        assert notebook.is_notebook() and notebook.is_interactive()
        with pytest.raises(ConfigError, match="train_metadata"):
            train_estimator.train(plain_spec())
        with pytest.raises(CheckpointError):
            train_estimator.evaluate(plain_spec())
        with pytest.raises(UsageError, match="nothing to train on"):
            tfic.train()
    with pytest.raises(SystemExit):  # a program ends
        train_estimator.train(plain_spec(), argv=["--trian_metadata", "x"])


@pytest.mark.slow
def test_arrays_are_trained_again_and_used(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    random = np.random.RandomState(0)
    labels = np.arange(40) % 2
    images = random.randint(0, 100, [40, 16, 16]) + 100 * labels[:, None, None]
    options = {"backbone": "mobilenet_v1_025", "image_size": 32, "batch_size": np.int64(8)}
    options |= {"checkpoint_path": "none", "train_steps": 3, "progress": False}
    options |= {"strategy": "one_device"}
    model = tfic.train((images, labels), val=(images[:8], labels[:8]), **options)
    assert model.step == 3 and os.path.isdir(model.model_dir)
    assert model.classes == ("0", "1")
    assert isinstance(model.model, keras.Model) and model.embed(images[:2]).shape == (2, 256)
    again = tfic.train((images, labels), val=(images[:8], labels[:8]), **options)
    assert again.model_dir == model.model_dir and "The run is complete" in capsys.readouterr().out
