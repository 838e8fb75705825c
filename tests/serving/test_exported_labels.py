"""Every kind of label in every format: written, run by the format's own runtime, compared."""

import os

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_image_classification import EstimatorSpec, evaluate, load_model, train
from tf_image_classification.export.formats import FORMATS
from tf_image_classification.export.request import ExportRequest
from tf_image_classification.labels import Label
from tf_image_classification.workflows.export import export_folder
from tf_image_classification.workflows.export_check import try_formats
from tiny_runs import tiny_settings

SIZE, COUNT = 8, 100
TAGS = ("bright", "striped", "tall")
LABELS = (
    Label("side", depth=2, class_names=("left", "right")),
    Label("age", depth=4, kind="ordinal"),
    Label("mean_age", depth=4, kind="ordinal", coding="expectation"),
    Label("near_age", depth=4, kind="ordinal", coding="distribution"),
    Label("tags", depth=3, kind="several", class_names=TAGS),
    Label("weight", kind="value", weight=0.001),
)


class LabelsSpec(EstimatorSpec):
    """One linear output a label; a bare tensor for a single one."""

    def __init__(self, labels):
        self.class_dict = labels

    def get_preproc_fn(self, is_training):
        return lambda image, width, height: tf.image.resize(image, [height, width]) / 127.5 - 1.0

    def get_model_fn(self, checkpoint_path):
        def model_fn(image_shape, params):
            inputs = keras.Input(image_shape)
            x = keras.layers.Flatten()(keras.layers.Conv2D(6, 3, activation="relu")(inputs))
            outputs = {
                label.name: keras.layers.Dense((*label.logits_shape, 1)[0], name=label.name)(x)
                for label in self.class_dict
            }
            return keras.Model(
                inputs, outputs if len(outputs) > 1 else next(iter(outputs.values()))
            )

        return model_fn

    def metric_ops(self, labels, predictions):
        return None


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    """A trained and evaluated run with a label of every kind."""
    folder = tmp_path_factory.mktemp("labels")
    random = np.random.RandomState(1)
    lines = ["URIs,side,age,mean_age,near_age,tags,weight"]
    for number in range(COUNT):
        age, right = number % 4, number // 4 % 2
        image = random.randint(0, 60, [SIZE, SIZE, 3])
        image[:, 4 * right : 4 * right + 4] += 60 * age
        (folder / f"{number}.png").write_bytes(tf.io.encode_png(image.astype(np.uint8)).numpy())
        tags = "|".join(TAGS[: age if number % 5 else 0]) or "|"
        lines.append(
            f"{number}.png,{LABELS[0].class_names[right]},{age},{age},{age},{tags},{age}.5"
        )
    (folder / "all.csv").write_text("\n".join(lines))
    csv = str(folder / "all.csv")
    options = {"train_steps": 6, "export_saved_model": True, "inspect": False}
    settings = tiny_settings(folder / "model", csv, csv, **options)
    train(LabelsSpec(LABELS), settings)
    evaluate(None, settings)
    return settings


def export(settings, name, quantization="none"):
    spec = LabelsSpec(LABELS) if name == "keras" else None
    request = ExportRequest(name, quantization, max_accuracy_drop=1.0)
    return export_folder(settings, request, spec)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*FORMATS, "keras"])
def test_every_kind_of_label_is_in_every_format(settings, name):
    found = export(settings, name).verification
    assert found.num_examples == COUNT and found.max_difference < 1e-5
    assert found.num_changed == found.num_contradictions == 0
    assert set(found.losses) == {label.name for label in LABELS}


def run_of(settings, exported, name):
    model = load_model(settings.run.model_dir)
    paths = [settings.data.train_metadata[0].replace("all.csv", f"{i}.png") for i in range(COUNT)]
    images = np.stack([model.prepare(path).numpy() for path in paths])
    return FORMATS[name].load(os.path.join(exported.path, FORMATS[name].file_name))(images)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["litert", "onnx"])
def test_outputs_after_the_logits_of_an_int8_file_stay_float(settings, name):
    exported = export(settings, name, "int8")
    assert (
        exported.verification.num_contradictions == 0
        and exported.verification.max_difference > 1e-4
    )
    outputs = run_of(settings, exported, name)
    for label in LABELS[:-1]:
        probabilities = outputs[f"{label.name}_probabilities"]
        calibrated = outputs[f"{label.name}_calibrated"]
        if label.kind == "multilabel":
            assert ((probabilities >= 0.5) == (calibrated >= 0.5)).all()
        else:
            np.testing.assert_array_equal(probabilities.argmax(1), calibrated.argmax(1))
            np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, atol=1e-6)
        steps = 256 * np.concatenate([probabilities.ravel(), calibrated.ravel()])
        assert (np.abs(steps - np.rint(steps)) > 1e-3).any()


@pytest.mark.parametrize(
    "label", [pytest.param(one, marks=pytest.mark.exhaustive) for one in LABELS]
)
def test_a_single_label_with_a_bare_output_is_in_every_format(label):
    settings = tiny_settings("unused", "unused", image_size=SIZE)
    found = try_formats(LabelsSpec([label]), settings)
    assert found == dict.fromkeys([*FORMATS, "keras"], "")
