"""Exported files: real runtimes read them, and one that predicts something else is not kept."""

import dataclasses
import errno
import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_models import CaseSpec
from serving.shipped_run import NAMES, TinyMaps
from tf_image_classification import load_model, make_settings
from tf_image_classification.cli import export as export_verb
from tf_image_classification.errors import ConfigError, ExportError, ParityError, UsageError
from tf_image_classification.estimator_specs import schema_of
from tf_image_classification.evaluation.calibration import Calibration
from tf_image_classification.export import inference_module, litert_format
from tf_image_classification.export.formats import FORMATS, write_file
from tf_image_classification.export.request import ExportRequest
from tf_image_classification.export.saved_model import ExportedModel
from tf_image_classification.labels import Label, LabelSchema
from tf_image_classification.system import files
from tf_image_classification.workflows import export as export_module
from tf_image_classification.workflows import export_saved_model
from tf_image_classification.workflows.export import export_folder
from tf_image_classification.workflows.setup.context import make_context
from tf_image_classification.workflows.setup.model import build_model
from tiny_runs import SIZE


def export(shipped_run, spec=None, **request):
    return export_folder(shipped_run.settings, ExportRequest(**request), spec)


def prepared(shipped_run, count=6):
    model = load_model(shipped_run.model_dir)
    return np.stack([model.prepare(data).numpy() for data in shipped_run.images[:count]])


def said(shipped_run, count=6):
    found = load_model(shipped_run.model_dir).predict(shipped_run.images[:count])
    return np.array([one.labels["kind"].probabilities for one in found])


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(FORMATS))
def test_each_format_predicts_what_was_evaluated(shipped_run, name):
    exported = export(shipped_run, format=name)
    found = exported.verification
    assert found.num_examples == 90 and found.num_changed == 0
    assert found.max_difference < 1e-4 and found.accuracy == found.reference_accuracy
    assert found.milliseconds > 0 and found.megabytes > 0
    kind = FORMATS[name]
    run = kind.load(os.path.join(exported.path, kind.file_name))
    images = np.array(shipped_run.images[:6], object) if kind.takes_bytes else prepared(shipped_run)
    outputs = run(images)
    np.testing.assert_allclose(outputs["kind_calibrated"], said(shipped_run), atol=1e-4)
    with open(os.path.join(exported.path, "labels.txt"), encoding="utf-8") as stream:
        assert stream.read().split() == list(NAMES)
    with open(os.path.join(exported.path, "parity.json"), encoding="utf-8") as stream:
        numbers = json.load(stream)
    assert numbers["num_examples"] == 90 and numbers["flipped"] == 0
    assert {"largest", "mean", "accuracy_there", "accuracy_here", "lost"} < set(numbers)
    with open(os.path.join(exported.path, "model.json"), encoding="utf-8") as stream:
        assert json.load(stream)["labels"]


@pytest.mark.slow
def test_keras_needs_the_spec_and_then_is_the_same(shipped_run):
    with pytest.raises(ConfigError, match="--spec"):
        export(shipped_run, format="keras")
    exported = export(shipped_run, TinyMaps(), format="keras")
    assert exported.verification.max_difference < 1e-6
    model = keras.saving.load_model(os.path.join(exported.path, "model.keras"), compile=False)
    assert model.output_shape == (None, 3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "quantization"),
    [(n, q) for n, kind in FORMATS.items() for q in kind.quantizations if q != "none"],
)
def test_quantised_files_stay_right(shipped_run, name, quantization):
    exported = export(shipped_run, format=name, quantization=quantization, max_accuracy_drop=0.1)
    assert exported.path.endswith(f"{name}-{quantization}")
    assert exported.verification.accuracy_drop <= 0.1
    assert exported.verification.max_difference > 0  # it is another file


def test_a_quantisation_that_a_format_lacks_is_refused(shipped_run):
    with pytest.raises(ConfigError, match="none, dynamic, int8"):
        export(shipped_run, format="onnx", quantization="float16")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("onnx", "--max_accuracy_drop", "0.5"), "--max_accuracy_drop has no effect with"),
        (("onnx", "--spec", "pets.py:PetSpec"), "--spec has no effect without --format keras"),
        (("onnx", "--train_metadata", "no/such"), "--train_metadata has no effect without"),
        (
            ("onnx", "--quantize", "int8", "--tolerance", "1"),
            "--tolerance has no effect with",
        ),
        (("onnx", "saved_model", "--quantize", "int8"), "saved_model with --quantize int8 is not"),
        (("onnx", "keras"), "format keras writes the spec's own model"),
        (("onnx", "--examples", "0"), "examples is 0"),
    ],
)
def test_what_has_no_effect_or_cannot_be_is_refused_before_a_file_is_written(
    monkeypatch, capsys, options, message
):
    monkeypatch.setattr(export_module, "export_folder", None)
    with pytest.raises(SystemExit):
        export_verb.main(["models/pets", "--format", *options])
    assert message in capsys.readouterr().err


class HalfCumulative(CaseSpec):
    """Two labels, one of which goes through an operation that LiteRT and ONNX lack."""

    def __init__(self):
        super().__init__("list of outputs")

    def get_model_fn(self, checkpoint_path):
        def model_fn(image_shape, params):
            image = keras.Input(image_shape)
            x = keras.layers.Flatten()(image)
            cumulate = keras.layers.Lambda(lambda v: tf.math.cumprod(v, axis=-1), name="cumulate")
            size = keras.layers.Dense(1)(cumulate(keras.layers.Dense(2)(x)))
            return keras.Model(image, [keras.layers.Dense(3)(x), size])

        return model_fn


@pytest.mark.slow
@pytest.mark.parametrize("name", ["litert", "onnx"])
def test_an_operation_that_a_format_lacks_is_one_line_with_its_layer_and_label(
    tmp_path, capfd, name
):
    spec, settings = HalfCumulative(), make_settings({"image_size": SIZE})
    schema, path = schema_of(spec), str(tmp_path / "saved_model")
    shape = tuple(export_saved_model.image_spec(spec, settings).shape)
    model = build_model(make_context(spec, settings), shape)
    export_saved_model.export_untrained(path, spec, settings, schema, model)
    exported, plan = ExportedModel(path).load(), inference_module.ExportPlan(schema, {}, {})
    capfd.readouterr()
    with pytest.raises(ExportError) as caught:
        write_file(FORMATS[name], exported, plan, str(tmp_path / "file"))
    assert str(caught.value) == (
        f"The model cannot be written as {name}, which has no operation Cumprod "
        "(functional_1/cumulate_1, of label size). Replace it in the model, or use another format."
    )
    assert capfd.readouterr().err == ""  # nothing of the converters' own


@pytest.mark.slow
@pytest.mark.parametrize("name", ["onnx", "keras"])
def test_a_disk_that_fills_in_an_export_is_one_line(shipped_run, monkeypatch, name):
    def write_json(path, value):
        raise OSError(errno.ENOSPC, "No space left on device", path)

    before = export(shipped_run, TinyMaps(), format=name).path
    monkeypatch.setattr(files, "write_json", write_json)
    with pytest.raises(ExportError) as caught:
        export(shipped_run, TinyMaps(), format=name)
    message = str(caught.value)
    assert "No space left on device" in message and "run the same tfic export again" in message
    assert len(message.splitlines()) == 1
    assert os.listdir(os.path.dirname(before)) and os.path.exists(before)
    assert not any(one.startswith(".") for one in os.listdir(os.path.dirname(before)))


@pytest.mark.slow
def test_a_file_that_differs_leaves_nothing(shipped_run, monkeypatch):
    before = export(shipped_run, format="onnx").path
    stamp = os.stat(os.path.join(before, "model.onnx")).st_mtime_ns
    right = inference_module.outputs_from

    def wrong(plan, logits):
        return right(plan, {name: value * 1.5 for name, value in logits.items()})

    monkeypatch.setattr(inference_module, "outputs_from", wrong)
    with pytest.raises(ParityError, match="tolerance"):
        export(shipped_run, format="onnx")
    with pytest.raises(ParityError, match="tolerance"):
        export(shipped_run, format="litert")
    assert os.stat(os.path.join(before, "model.onnx")).st_mtime_ns == stamp
    assert not any(name.startswith(".") for name in os.listdir(os.path.dirname(before)))
    assert export(shipped_run, format="onnx", tolerance=1.0).verification.max_difference > 1e-3


@pytest.mark.slow
def test_calibrated_outputs_are_compared_too(shipped_run, monkeypatch):
    right = inference_module._tempered

    def wrong(probabilities, calibration):
        return right(probabilities, dataclasses.replace(calibration, temperature=9.0))

    monkeypatch.setattr(inference_module, "_tempered", wrong)
    with pytest.raises(ParityError, match="tolerance"):
        export(shipped_run, format="onnx")


@pytest.mark.parametrize("kind", ["class", "several"])
@pytest.mark.parametrize("temperature", [0.5, 2.0, 5.0])
def test_files_calibrate_as_the_evaluation_does_however_sure_a_model_is(kind, temperature):
    schema = LabelSchema((Label("kind", depth=3, kind=kind, class_names=NAMES),))
    calibration = Calibration(
        temperature, (0.5,) * 3, is_multilabel=kind in ("several", "multilabel")
    )
    logits = np.random.default_rng(0).normal(0, 15, [300, 3]).astype(np.float32)
    plan = inference_module.ExportPlan(schema, {"kind": calibration}, {})
    outputs = inference_module.outputs_from(plan, {"kind": tf.constant(logits)})
    expected = calibration.apply(outputs["kind_probabilities"].numpy())
    np.testing.assert_allclose(outputs["kind_calibrated"], expected, atol=1e-3)


@pytest.mark.slow
def test_a_quantised_file_that_loses_too_much_is_refused(shipped_run, monkeypatch):
    right = inference_module.outputs_from

    def wrong(plan, logits):
        return right(plan, {name: -value for name, value in logits.items()})

    monkeypatch.setattr(inference_module, "outputs_from", wrong)
    with pytest.raises(ParityError, match="max_accuracy_drop"):
        export(shipped_run, format="litert", quantization="float16")


@pytest.mark.slow
def test_the_files_describe_themselves(shipped_run):
    import onnx

    path = os.path.join(export(shipped_run, format="litert").path, "model.tflite")
    described = litert_format.litert_description(path)
    assert described["labels"] and described["input"]["shape"] == [None, 8, 8, 3]
    assert "/" not in described["preprocessing"]["spec"]  # where it lay is nobody's business
    path = os.path.join(export(shipped_run, format="onnx").path, "model.onnx")
    model = onnx.load(path)
    onnx.checker.check_model(model)
    props = {prop.key: prop.value for prop in model.metadata_props}
    assert json.loads(props["tf_image_classification"]) == described
    path = os.path.join(export(shipped_run, format="saved_model").path, "saved_model")
    assert json.loads(tf.saved_model.load(path).describe().numpy())["labels"] == described["labels"]


@pytest.mark.slow
def test_a_process_without_this_package_reads_the_saved_model(shipped_run, tmp_path):
    exported = export(shipped_run, format="saved_model")
    (tmp_path / "image.png").write_bytes(shipped_run.images[0])
    program = (
        "import json, sys, tensorflow as tf\n"
        "model = tf.saved_model.load(sys.argv[1])\n"
        "image = tf.io.read_file(sys.argv[2])[None]\n"
        "found = model.signatures['serving_default'](image_bytes=image)\n"
        "assert 'tf_image_classification' not in sys.modules\n"
        "print(json.dumps(found['kind_calibrated'].numpy().tolist()))\n"
    )
    path = os.path.join(exported.path, "saved_model")
    result = subprocess.run(
        [sys.executable, "-c", program, path, str(tmp_path / "image.png")],
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    np.testing.assert_allclose(json.loads(result.stdout), said(shipped_run, 1), rtol=1e-4)


@pytest.mark.slow
def test_a_killed_replacement_is_found_again(shipped_run):
    path = export(shipped_run, format="onnx").path
    os.rename(path, path + ".old")  # a process was killed between the two steps
    assert export(shipped_run, format="onnx").path == path
    assert os.path.exists(os.path.join(path, "model.onnx")) and not os.path.exists(path + ".old")


@pytest.mark.slow
def test_the_verb_prints_the_table(shipped_run, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(shipped_run.folder))
    options = ["--format", "onnx", "litert", "--examples", "7"]
    assert export_verb.main([shipped_run.model_dir, *options]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:2] == ["format", "examples"]
    assert [line.split()[:2] for line in lines[1:]] == [["onnx", "7"], ["litert", "7"]]


def test_a_missing_package_is_named_with_its_extra(shipped_run, monkeypatch):
    monkeypatch.setitem(sys.modules, "tf2onnx", None)
    with pytest.raises(ConfigError, match=r"tf_image_classification\[onnx\]"):
        export(shipped_run, format="onnx")


@pytest.mark.slow
def test_new_predictions_are_made_where_the_kept_ones_are_of_something_else(shipped_run):
    path = os.path.join(shipped_run.model_dir, "predictions.parquet")
    os.rename(path, path + ".kept")
    try:
        assert export(shipped_run, format="onnx").verification.num_examples == 90
        assert os.path.exists(path)
    finally:
        os.replace(path + ".kept", path)


@pytest.mark.slow
def test_a_litert_file_of_pixels_has_the_names_that_frigate_reads(shipped_run):
    exported = export(shipped_run, format="litert", input_type="uint8", max_accuracy_drop=0.05)
    assert exported.path.endswith("litert-uint8")
    assert 0 < exported.verification.max_difference < 0.02
    with open(os.path.join(exported.path, "labelmap.txt"), encoding="utf-8") as stream:
        assert stream.read().split() == list(NAMES)
    with open(os.path.join(exported.path, "model.json"), encoding="utf-8") as stream:
        assert json.load(stream)["input"]["dtype"] == "uint8"
    with pytest.raises(ConfigError, match="web needs the preprocessing of a run with --backbone"):
        export(shipped_run, format="web")


def test_a_missing_package_is_found_before_tensorflow_is_imported(shipped_run):
    program = (
        "import sys\n"
        "for name in ('ai_edge_litert', 'tensorflow', 'keras'): sys.modules[name] = None\n"
        "from tf_image_classification.cli.main import main\n"
        f"main(['export', {shipped_run.model_dir!r}, '--format', 'litert'])\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "tf_image_classification[litert]" in result.stderr and result.returncode != 0


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"tolerance": 0.1, "quantize": "int8"}, "tolerance has no effect with quantize"),
        ({"max_accuracy_drop": 0.1}, "max_accuracy_drop has no effect with quantize"),
    ],
)
def test_a_limit_without_effect_is_rejected_from_python_too(shipped_run, limits, message):
    with pytest.raises(UsageError, match=message):
        load_model(shipped_run.model_dir).export("litert", **limits)
