"""One picture through every way out of a model folder, with one answer."""

import base64
import os

import httpx
import numpy as np
import pytest
import tensorflow as tf
from sklearn.datasets import load_digits

from serving.test_server import serving
from tf_image_classification import evaluate, load_model, make_settings, train
from tf_image_classification.labels import Label
from tf_image_classification.ready_spec import ReadySpec
from tf_image_classification.runs import reporting
from tf_image_classification.runs.shipping import Wish, export_folder
from tf_image_classification.serving.formats import FORMATS

DATA = os.path.join(os.path.dirname(__file__), *[os.pardir] * 3, "shared", "data")
TRASH = os.path.join(DATA, "trashnet", "dataset-resized")
EXAMPLE = os.path.join(os.path.dirname(__file__), *[os.pardir] * 2, "examples", "mnist")
WEIGHTS = os.path.join(DATA, "checkpoints", "mobilenet_v1_0.25_128", "mobilenet_v1_0.25_128.ckpt")


def answers_of_every_way(model_dir, settings, cache, picture):
    """Probabilities by way, and the table of the exports."""
    model = load_model(model_dir)
    [name] = model.schema.names
    said = model.predict(picture)[0].labels[name]
    found = {"predict": said.probabilities}
    prepared = model.prepare(picture).numpy()[None]
    parities = {}
    for kind in FORMATS.values():
        shipped = export_folder(settings, Wish(kind.name, num_examples=30), cache)
        parities[kind.name] = shipped.parity
        run = kind.load(os.path.join(shipped.path, kind.file_name))
        outputs = run(np.array([picture], object) if kind.takes_bytes else prepared)
        found[kind.name] = outputs[f"{name}_calibrated"][0]
    body = {"instances": [{"b64": base64.b64encode(picture).decode()}]}
    with serving(model) as client:
        answer = client.post("/v1/models/tiny:predict", json=body)
        assert isinstance(answer, httpx.Response)
        found["REST"] = answer.json()["predictions"][0][f"{name}_calibrated"]
    return found, parities, said


def assert_one_answer(found, parities):
    for way, probabilities in found.items():
        np.testing.assert_allclose(probabilities, found["predict"], atol=1e-3, err_msg=way)
    for parity in parities.values():
        assert parity.flipped == 0 and parity.accuracy_drop == 0


@pytest.mark.as_installed
def test_a_tiny_run(shipped_run):
    cache = str(shipped_run.folder / "cache")
    picture = shipped_run.images[0]
    found, parities, _ = answers_of_every_way(
        shipped_run.model_dir, shipped_run.settings, cache, picture
    )
    assert set(found) == {"predict", "saved_model", "litert", "onnx", "REST"}
    assert_one_answer(found, parities)


@pytest.mark.slow
def test_digits(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLE)
    from train_mnist import MnistSpec

    few, digits = tmp_path / "digits", load_digits()
    for number, (values, name) in enumerate(zip(digits.images, digits.target, strict=True)):
        path = few / str(name) / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(tf.io.encode_png((15 * values[..., None]).astype(np.uint8)).numpy())
    settings = make_settings(
        {
            "model_dir": str(tmp_path / "m"),
            "train_metadata": (str(few),),
            "eval_metadata": (str(few),),
            "inspect": False,  # the same images: what is looked at are the exports
            "image_size": 28,
            "train_steps": 60,
            "batch_size": 64,
            "learning_rate": 0.01,
            "cache_dir": str(tmp_path),
            "progress": False,
        }
    )
    train(MnistSpec(), settings)
    folder = make_settings({"model_dir": settings.run.model_dir, "cache_dir": str(tmp_path)})
    evaluate(None, folder)
    data = (few / "7" / "7.png").read_bytes()
    found, parities, said = answers_of_every_way(
        settings.run.model_dir, folder, str(tmp_path), data
    )
    assert_one_answer(found, parities)
    assert said.name == "7"
    page, _ = reporting.write_report(folder, str(tmp_path), is_inspected=False)
    assert os.path.getsize(page) < 20_000_000


@pytest.mark.exhaustive
def test_photographs_of_trash(tmp_path):
    if not os.path.exists(TRASH) or not tf.io.gfile.glob(WEIGHTS + "*"):
        pytest.skip("the photographs and the pretrained weights are not at hand")
    few = tmp_path / "few"
    for name in os.listdir(TRASH):
        (few / name).mkdir(parents=True)
        for picture in sorted(os.listdir(os.path.join(TRASH, name)))[:10]:
            os.symlink(os.path.join(os.path.abspath(TRASH), name, picture), few / name / picture)
    settings = make_settings(
        {
            "model_dir": str(tmp_path / "m"),
            "train_metadata": (str(few),),
            "eval_metadata": (str(few),),
            "inspect": False,  # the same images: what is looked at are the exports
            "backbone": "mobilenet_v1_025",
            "checkpoint_path": WEIGHTS,
            "image_size": 128,
            "head_phase": True,
            "train_steps": 2,
            "batch_size": 16,
            "learning_rate": 1e-4,
            "cache_dir": str(tmp_path),
            "progress": False,
        }
    )
    spec = ReadySpec([Label("label", depth=6)], settings.ready)
    train(spec, settings)
    folder = make_settings({"model_dir": settings.run.model_dir, "cache_dir": str(tmp_path)})
    evaluate(None, folder)  # everything else is inherited from the run
    with open(os.path.join(TRASH, "glass", "glass115.jpg"), "rb") as stream:
        data = stream.read()
    found, parities, said = answers_of_every_way(
        settings.run.model_dir, folder, str(tmp_path), data
    )
    assert_one_answer(found, parities)
    assert said.name in os.listdir(TRASH)
    page, card = reporting.write_report(folder, str(tmp_path), is_inspected=False)
    assert 100_000 < os.path.getsize(page) < 20_000_000 and os.path.getsize(card)
