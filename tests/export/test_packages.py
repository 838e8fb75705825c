"""Folders for Hugging Face and MLflow, read back by their own libraries."""

import json

import pytest

from tf_image_classification import load_model
from tf_image_classification.cli import export as export_verb


@pytest.fixture(scope="module")
def exports(shipped_run):
    formats = ["--format", "huggingface", "mlflow", "--examples", "20"]
    assert export_verb.main([shipped_run.model_dir, *formats]) == 0
    return shipped_run.folder / "model" / "exports"


def named(model, images):
    return [
        (one.labels["kind"].name, one.labels["kind"].probability) for one in model.predict(images)
    ]


@pytest.mark.slow
def test_a_folder_for_hugging_face_is_a_model_folder_with_a_card(exports, shipped_run):
    folder = exports / "huggingface"
    images = shipped_run.images[:3]
    assert named(load_model(folder), images) == named(load_model(shipped_run.model_dir), images)
    config = json.loads((folder / "config.json").read_text())
    assert config["id2label"] == {"0": "cat", "1": "dog", "2": "emu"}
    assert config["label2id"]["emu"] == 2 and config["image_size"] == 8
    card = (folder / "README.md").read_text()
    assert card.startswith("---\n") and "snapshot_download" in card
    assert str(shipped_run.folder) not in card + (folder / "run.json").read_text()


def test_the_hub_reads_the_card(exports, shipped_run):
    hub = pytest.importorskip("huggingface_hub")
    data = hub.ModelCard.load(exports / "huggingface" / "README.md").data
    assert (data.library_name, data.pipeline_tag) == (
        "tf_image_classification", "image-classification",
    )  # fmt: skip
    values = {one.metric_type: one.metric_value for one in data.eval_results}
    analysis = json.loads((shipped_run.folder / "model" / "judgement.json").read_text())
    accuracy = analysis["labels"]["kind"]["measures"]["overall"]["accuracy"]["value"]
    assert values["accuracy"] == pytest.approx(accuracy, abs=1e-6)


@pytest.mark.slow  # MLflow's import takes long
def test_mlflow_loads_its_folder_and_predicts(exports, shipped_run):
    pyfunc = pytest.importorskip("mlflow.pyfunc")
    pandas = pytest.importorskip("pandas")
    model = pyfunc.load_model(str(exports / "mlflow"))
    images = shipped_run.images[:3]
    found = model.predict(pandas.DataFrame({"image_bytes": images}))
    expected = named(load_model(shipped_run.model_dir), images)
    assert found["kind_class_name"].tolist() == [name for name, _ in expected]
    with pytest.raises(Exception, match="Image 1 cannot be used"):
        model.predict(pandas.DataFrame({"image_bytes": [images[0], b"no image"]}))
