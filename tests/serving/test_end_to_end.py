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
from tf_image_classification.backbone_spec import BackboneSpec
from tf_image_classification.export.formats import FORMATS
from tf_image_classification.export.request import ExportRequest
from tf_image_classification.labels import Label
from tf_image_classification.workflows import report
from tf_image_classification.workflows.export import export_folder

DATA = os.path.join(os.path.dirname(__file__), *[os.pardir] * 3, "shared", "data")
TRASH = os.path.join(DATA, "trashnet", "dataset-resized")
EXAMPLE = os.path.join(os.path.dirname(__file__), *[os.pardir] * 2, "examples", "mnist")
WEIGHTS = os.path.join(DATA, "checkpoints", "mobilenet_v1_0.25_128", "mobilenet_v1_0.25_128.ckpt")


def answers_of_every_way(model_dir, settings, picture):
    """Probabilities by way, and the table of the exports."""
    model = load_model(model_dir)
    [name] = model.schema.names
    said = model.predict(picture)[0].labels[name]
    found = {"predict": said.probabilities}
    score = model.predict(picture)[0].unknown_score
    scores = {} if score is None else {"predict": score}
    prepared = model.prepare(picture).numpy()[None]
    verifications = {}
    for kind in FORMATS.values():
        exported = export_folder(settings, ExportRequest(kind.name, num_examples=30))
        verifications[kind.name] = exported.verification
        run = kind.load(os.path.join(exported.path, kind.file_name))
        outputs = run(np.array([picture], object) if kind.takes_bytes else prepared)
        found[kind.name] = outputs[f"{name}_calibrated"][0]
        if scores and not kind.is_package:
            scores[kind.name] = outputs["unknown_score"][0]
    body = {"instances": [{"b64": base64.b64encode(picture).decode()}]}
    with serving(model) as client:
        answer = client.post("/v1/models/tiny:predict", json=body)
        assert isinstance(answer, httpx.Response)
        found["REST"] = answer.json()["predictions"][0][f"{name}_calibrated"]
    return found, verifications, said


def assert_one_answer(found, verifications):
    for way, probabilities in found.items():
        np.testing.assert_allclose(probabilities, found["predict"], atol=1e-3, err_msg=way)
    for found in verifications.values():
        assert found.num_changed == 0 and found.accuracy_drop == 0


@pytest.mark.slow
@pytest.mark.as_installed
def test_a_tiny_run(shipped_run):
    picture = shipped_run.images[0]
    found, verifications, _ = answers_of_every_way(
        shipped_run.model_dir, shipped_run.settings, picture
    )
    assert set(found) == {"predict", "REST", *FORMATS}
    assert_one_answer(found, verifications)


@pytest.mark.exhaustive
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
    found, verifications, said = answers_of_every_way(settings.run.model_dir, folder, data)
    assert_one_answer(found, verifications)
    assert said.name == "7"
    page, _ = report.write_report(folder, is_inspected=False)
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
    spec = BackboneSpec([Label("label", depth=6)], settings.backbone_spec)
    train(spec, settings)
    folder = make_settings({"model_dir": settings.run.model_dir, "cache_dir": str(tmp_path)})
    evaluate(None, folder)  # everything else is inherited from the run
    with open(os.path.join(TRASH, "glass", "glass115.jpg"), "rb") as stream:
        data = stream.read()
    found, verifications, said = answers_of_every_way(settings.run.model_dir, folder, data)
    assert_one_answer(found, verifications)
    assert said.name in os.listdir(TRASH)
    page, card = report.write_report(folder, is_inspected=False)
    assert 100_000 < os.path.getsize(page) < 20_000_000 and os.path.getsize(card)
