"""``tfic compare`` on model folders, exported files, servers and CSV files, and its page."""

import dataclasses
import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from browser import open_page
from evaluation.test_analysis import of_class, predictions
from evaluation.test_compare import changed
from serving.running_server import serving
from tf_image_classification import compare, load_model, train
from tf_image_classification.classifier.model import _load_predictor
from tf_image_classification.cli import compare as verb
from tf_image_classification.cli import predict as predict_verb
from tf_image_classification.errors import ConfigError, DataError, TficError
from tf_image_classification.evaluation.predictions import read_predictions, write_predictions
from tf_image_classification.export.request import ExportRequest
from tf_image_classification.workflows.example_data import write_example
from tf_image_classification.workflows.export import export_folder


@pytest.fixture(scope="module")
def files(shipped_run):
    """The exported files of a run, by format."""
    requests = {
        "litert": ExportRequest("litert"),
        "onnx": ExportRequest("onnx"),
        "saved_model": ExportRequest("saved_model"),
        "pixels": ExportRequest("litert", input_type="uint8", max_accuracy_drop=0.5),
    }
    return {name: export_folder(shipped_run.settings, r).path for name, r in requests.items()}


def write(path, found, slices=None):
    write_predictions(str(path), predictions(found, slices))
    return str(path)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["litert", "onnx", "saved_model", "pixels"])
def test_an_exported_file_is_evaluated_on_the_examples_of_its_run(kind, shipped_run, files):
    found = compare(shipped_run.model_dir, files[kind], equivalent=0.1)
    pair = found._compared.pairs["kind"]
    assert len(pair.names) == 90 and found.is_shown
    limit = 0.05 if kind == "pixels" else 1e-4
    assert np.abs(pair.a.probabilities - pair.b.probabilities).max() < limit


@pytest.mark.slow
def test_two_files_of_a_run_are_compared_and_a_file_by_its_own_name(shipped_run, files):
    inside = os.path.join(files["litert"], "model.tflite")
    found = compare(inside, files["onnx"], not_worse=0.1)
    assert found.is_shown and found.comparisons["kind"].difference.count == 90
    model = load_model(shipped_run.model_dir)
    assert compare(model, inside, not_worse=0.1).is_shown


@pytest.mark.slow
def test_a_copied_file_needs_the_preprocessing_of_its_run(shipped_run, files, tmp_path):
    copied = tmp_path / "copied.tflite"
    shutil.copy(os.path.join(files["litert"], "model.tflite"), copied)
    with pytest.raises(DataError, match="a spec of its own"):
        compare(shipped_run.model_dir, copied)


def test_what_cannot_be_compared_names_the_cure(shipped_run, tmp_path):
    copied = tmp_path / "copied.tflite"
    with pytest.raises(ConfigError, match="Neither .* has an evaluation"):
        compare(copied, copied)
    (tmp_path / "weights.h5").write_bytes(b"")
    with pytest.raises(TficError, match="a file of weights, not a model folder"):
        compare(shipped_run.model_dir, tmp_path / "weights.h5")
    with pytest.raises(ConfigError, match="Write http://localhost:8080"):
        compare(shipped_run.model_dir, "localhost:8080")
    with pytest.raises(DataError, match="There is no file"):
        compare(shipped_run.model_dir, "nothing.tflite")
    with pytest.raises(TficError, match="not there"):
        compare(shipped_run.model_dir, "nothing")
    with pytest.raises(ConfigError, match="needs a model folder"):
        compare(copied, copied, eval_metadata="x")


def test_a_served_model_predicts_what_its_folder_does(shipped_run):
    with serving(_load_predictor(shipped_run.model_dir)) as client:
        found = compare(shipped_run.model_dir, str(client.base_url), equivalent=0.1)
        other = compare(str(client.base_url), shipped_run.model_dir, equivalent=0.1)
    pair = found._compared.pairs["kind"]
    assert np.abs(pair.a.probabilities - pair.b.probabilities).max() < 1e-5
    assert found.is_shown and other.is_shown


def test_the_rows_of_predict_are_the_predictions_of_its_model(shipped_run, tmp_path, capsys):
    output = str(tmp_path / "rows.csv")
    folder = tmp_path / "pictures"
    folder.mkdir()
    stored = read_predictions(os.path.join(shipped_run.model_dir, "predictions.parquet"))
    for number, data in enumerate(shipped_run.images):
        (folder / f"{number:03}.png").write_bytes(data)
    assert predict_verb.main([shipped_run.model_dir, str(folder), "--output", output]) == 0
    text = Path(output).read_text()
    for number, uri in enumerate(stored.uris):
        text = text.replace(str(folder / f"{number:03}.png"), uri)
    Path(output).write_text(text)
    found = compare(shipped_run.model_dir, output, not_worse=0.1)
    assert found.is_shown and not found.comparisons["kind"].gained and not found.notes
    with pytest.raises(ConfigError, match="log_loss needs the probabilities"):
        compare(shipped_run.model_dir, output, metric="log_loss", not_worse=0.1)


def test_the_exit_status_is_that_of_the_claim(tmp_path, capsys):
    found = of_class(1000)
    a = write(tmp_path / "a.parquet", found)
    b = write(tmp_path / "b.parquet", changed(found, np.flatnonzero(~found.is_right)[:50], True))
    assert verb.main([a, b, "--better"]) == 0
    assert "gate passed: B is better than A" in capsys.readouterr().out
    assert verb.main([a, b, "--equivalent", "1%"]) == verb.NOT_SHOWN == 3
    assert "gate not passed" in capsys.readouterr().out
    assert verb.main([a, b]) == 0
    assert "gate" not in capsys.readouterr().out
    assert verb.main([b, a, "--not-worse", "0.1", "--metric", "macro_f1", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["gate"]["is_shown"] and result["gate"]["margin"] == 0.1
    assert result["gate"]["labels"]["kind"]["metric"] == "macro_f1"
    for words in (
        ["--equivalent", "0.01", "--better"], ["--equivalent", "5"], ["--equivalent", "0"],
        ["--not_worse", "x"], ["--metric", "accuracy"], ["--slices", "kind"],
        ["--slice_margin", "0.1", "--better"], ["--metric", "acuracy", "--better"],
    ):  # fmt: skip
        with pytest.raises(SystemExit) as ended:
            verb.main([a, b, *words])
        assert ended.value.code == 2, words
    capsys.readouterr()
    with pytest.raises(SystemExit):
        verb.main(["--better", a, b])
    assert "Write the models first" in capsys.readouterr().err


def test_the_page_shows_the_verdict_and_the_changed_pictures(shipped_run, tmp_path):
    stored = read_predictions(os.path.join(shipped_run.model_dir, "predictions.parquet"))
    of_kind = stored.labels["kind"]
    predicted = of_kind.predicted.copy()
    predicted[:30] = (of_kind.truth[:30] + 1) % 3
    predicted[30:40] = of_kind.truth[30:40]
    other = dataclasses.replace(
        stored, labels={"kind": dataclasses.replace(of_kind, predicted=predicted)}
    )
    path = str(tmp_path / "other.parquet")
    write_predictions(path, other)
    found = compare(shipped_run.model_dir, path, not_worse=0.05, slices="kind")
    page = found.write_html(tmp_path / "flips.html")
    text = Path(page).read_text()
    assert "Not shown: B is at most 0.05 worse than A" in text
    assert text.count("data:image/jpeg;base64,") >= 10
    assert "kind = " in text.replace("<wbr>", "")
    for width in (1280, 390):
        with open_page(f"file://{page}", width=width) as (shown, complaints):
            assert shown.evaluate("document.documentElement.scrollWidth") <= width
            assert shown.locator("figure img").count() >= 10
            assert not complaints


def test_the_page_without_images_and_claim(tmp_path, capsys):
    found = of_class(60)
    a = write(tmp_path / "a.parquet", found)
    b = write(tmp_path / "b.parquet", changed(found, np.flatnonzero(found.is_right)[:9], False))
    page = tmp_path / "page.html"
    assert verb.main([a, b, "--page", str(page)]) == 0
    text = page.read_text()
    assert "no image kept" in text and "Worse: only A is right" in text
    assert str(tmp_path) in text  # the names of the models, as they were given


def test_a_csv_of_classes_gets_no_percentages_on_the_page(tmp_path, capsys):
    of_kind = of_class(60)
    found = predictions(of_kind)
    a = write(tmp_path / "a.parquet", of_kind)
    names = found.schema["kind"].named_classes()
    rows = [
        f"{uri},{names[(number + 1) % len(names)]}"
        for uri, number in zip(found.uris, of_kind.predicted.tolist(), strict=True)
    ]
    b = tmp_path / "b.csv"
    b.write_text("\n".join(["image,prediction", *rows]))
    page = tmp_path / "page.html"
    assert verb.main([a, str(b), "--not_worse", "0.02", "--page", str(page)]) == 3
    text = page.read_text()
    assert "most confident of B first" not in text
    assert re.search(r"A: .*\d %</span>", text) and not re.search(r"B: .*\d %</span>", text)
    assert text.count("<div>actual: ") == text.count("<figure>") > 0


@pytest.mark.slow
def test_a_real_int8_file_passes_and_a_spoiled_one_does_not(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_example(str(tmp_path))
    os.remove(tmp_path / "pets" / "dog" / "101.jpg")  # the one that is cut off
    model = train(
        "pets", model_dir="run", eval_metadata="pets", image_size=64, epochs=1, batch_size=16,
        checkpoint_path="imagenet",
    )  # fmt: skip
    path = model.export("litert", quantize="int8", max_accuracy_drop=0.2).path
    passed = compare(model, path, not_worse=0.08, slices="label", slice_margin=0.2)
    assert passed.is_shown, passed
    file = Path(path) / "model.tflite"
    spoil(file)
    spoiled = compare(model, path, not_worse=0.08)
    assert not spoiled.is_shown and spoiled.gate.labels["label"].overall.num_worse > 10


def spoil(path):
    """Shuffle the int8 weights of a LiteRT file."""
    from tensorflow.lite.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model(str(path))
    random = np.random.default_rng(0)
    for buffer in model.buffers:
        if buffer.data is not None and len(buffer.data) > 4000:
            random.shuffle(buffer.data)
    flatbuffer_utils.write_model(model, str(path))
