"""Every kind of Keras model that people write: checked, trained, resumed, exported, explained.

By default each is checked and exported untrained, and a few go all the way; with TFIC_ALL_TESTS=1
all do, and are killed.
"""

import os
import shutil
import signal
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import tiny_runs
from keras_models import MODELS, CaseSpec
from tf_image_classification import evaluate, load_model, make_settings, train
from tf_image_classification.errors import ExportError, SpecError
from tf_image_classification.estimator_specs import logits_of, schema_of
from tf_image_classification.export.formats import FORMATS
from tf_image_classification.export.request import ExportRequest
from tf_image_classification.export.saved_model import ExportedModel
from tf_image_classification.hooks import Hook
from tf_image_classification.workflows import export_saved_model, report
from tf_image_classification.workflows.export import export_folder
from tf_image_classification.workflows.setup.context import make_context
from tf_image_classification.workflows.setup.model import build_model
from tf_image_classification.workflows.setup.spec_check import check_spec

pytestmark = pytest.mark.as_installed

FINE = [name for name, case in MODELS.items() if not case.refused]
REFUSED = [name for name, case in MODELS.items() if case.refused]
ALL_THE_WAY = ("sequential without Input", "list of outputs")
RARER = {
    *("sequential in functional", "subclasses in a subclass", "trunk in a subclass"),
    *("normalisations", "resizing", "regularised", "add_loss", "transformer", "dense"),
    *("squeeze and excite", "own train_step", "mixed bfloat16 policy", "float16 outputs"),
    *("bfloat16 outputs", "ensemble", "restored", "any size", "blue first", "float16 images"),
    *("lists of one", "tuple of one", "dictionary of one"),
}
"""Models that make test-all checks only."""
COMMON = ("subclassed", "list of outputs")
"""Models that make test checks."""
STEPS, KILLED_AT = 3, 2


@pytest.fixture(autouse=True)
def own_policy():
    """A script may set the policy for the whole process."""
    before = keras.config.dtype_policy()
    yield
    keras.config.set_dtype_policy(before)


def settings_of(name, **more):
    case = MODELS[name]
    return make_settings({"image_size": case.side, "precision": case.precision} | more)


def built(name, settings):
    spec = CaseSpec(name)
    shape = export_saved_model.image_spec(spec, settings).shape
    return spec, build_model(make_context(spec, settings), tuple(shape))


@pytest.mark.parametrize(
    "name",
    [
        *COMMON,
        *(pytest.param(n, marks=pytest.mark.slow) for n in FINE if n not in RARER | {*COMMON}),
        *(pytest.param(n, marks=pytest.mark.exhaustive) for n in FINE if n in RARER),
    ],
)
def test_each_is_checked_exported_and_explained_before_a_training(name, tmp_path):
    settings, case = settings_of(name), MODELS[name]
    assert check_spec(CaseSpec(name), settings) == []
    spec, model = built(name, settings)
    schema, path = schema_of(spec), str(tmp_path / "saved_model")
    export_saved_model.export_untrained(path, spec, settings, schema, model)
    exported = ExportedModel(path).load()
    images = np.random.RandomState(0).uniform(0, 255, [2, *exported.image_spec.shape])
    images = tf.constant(images, exported.image_spec.dtype)
    expected = logits_of(schema, model, images, training=False)
    found = exported.forward(images, training=False)
    for label, logits in expected.items():
        np.testing.assert_allclose(found[label], logits, rtol=1e-4, atol=1e-4)
    heat = exported.explain(images)
    assert case.no_heat in exported.no_heat_maps and "\n" not in exported.no_heat_maps
    assert set(heat) == (set() if case.no_heat else set(schema.names))
    for maps in heat.values():
        assert maps.shape.rank == 3 and float(tf.reduce_max(maps)) in (0.0, 1.0)


@pytest.mark.slow_after(3)
@pytest.mark.parametrize("name", REFUSED)
def test_each_that_cannot_be_right_is_refused_before_the_first_step(name, sets, tmp_path):
    with pytest.raises(SpecError) as caught:
        trained(name, tmp_path / "model", sets)
    assert MODELS[name].refused in str(caught.value)
    assert not (tmp_path / "model" / "checkpoints").exists()


# --- all the way -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sets")

    def labels(number, kind):
        return {"kind": float(kind), "size": float(number % 5)}

    return [
        tiny_runs.write_records(folder, name, count=12, labels=labels, seed=seed)
        for seed, name in enumerate(("train", "eval"))
    ]


def run_settings(name, model_dir, sets, **more):
    more = {"train_steps": STEPS, "save_checkpoints_steps": KILLED_AT} | more
    more = {"image_size": MODELS[name].side, "batch_size": 4, "export_saved_model": True} | more
    more = {"precision": MODELS[name].precision} | more
    return tiny_runs.tiny_settings(model_dir, *sets, **more)


def trained(name, model_dir, sets, hooks=(), **more):
    settings = run_settings(name, model_dir, sets, **more)
    return settings, train(CaseSpec(name), settings, hooks=hooks)


def interrupted(model_dir, copy):
    """A copy of a model folder as a kill after the first checkpoint would have left it."""
    shutil.copytree(model_dir, copy, ignore=shutil.ignore_patterns("saved_model", "best"))
    for path in (copy / "checkpoints").glob(f"*{STEPS:08d}*"):
        path.unlink()


def all_the_way(name, sets, folder, kill):
    case = MODELS[name]
    settings, result = trained(name, folder / "straight", sets)
    straight = tiny_runs.last_checkpoint(folder / "straight")
    assert straight.step == result.step == STEPS
    kill(folder / "straight", folder / "killed")
    assert tiny_runs.last_checkpoint(folder / "killed").step == KILLED_AT
    trained(name, folder / "killed", sets, export_saved_model=False)
    tiny_runs.assert_same_bits(tiny_runs.last_checkpoint(folder / "killed"), straight)

    metrics = evaluate(None, settings).metrics
    for label in case.labels:
        measure = "accuracy" if label.has_classes else "mean_absolute_error"
        names = [n for n in metrics if measure in n and (len(case.labels) < 2 or label.name in n)]
        assert names and metrics[names[0]] == pytest.approx(result.metrics[names[0]], rel=1e-4)
    for kind in (*FORMATS, "keras"):
        request, spec = ExportRequest(kind), CaseSpec(name) if kind == "keras" else None
        if kind in case.no_export:
            with pytest.raises(ExportError) as caught:
                export_folder(settings, request, spec)
            message = str(caught.value)
            assert case.no_export[kind] in message and len(message.splitlines()) == 1
            continue
        found = export_folder(settings, request, spec).verification
        assert found.num_examples == 12 and found.num_contradictions == 0
    page, _ = report.write_report(settings, is_inspected=False)
    with open(page, encoding="utf-8") as stream:
        text = stream.read()
    assert (f"none: {case.no_heat}" if case.no_heat else "Grad-CAM for 12 examples") in text
    heat = load_model(str(folder / "straight")).explain
    spec = export_saved_model.image_spec(CaseSpec(name), settings_of(name))
    assert bool(case.no_heat) == (heat(tf.zeros([1, *spec.shape], spec.dtype)) == {})


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL_THE_WAY)
def test_some_are_trained_resumed_evaluated_exported_and_reported(name, sets, tmp_path):
    all_the_way(name, sets, tmp_path, interrupted)


class AdaptedToChance(CaseSpec):
    """Its layer is adapted to other images each time that the model is built."""

    random = np.random.RandomState(0)

    def get_model_fn(self, checkpoint_path):
        def model_fn(image_shape, params):
            scale = keras.layers.Normalization()
            scale.adapt(self.random.uniform(0, 255, [4, *image_shape]))
            flat, dense = keras.layers.Flatten(), keras.layers.Dense(3)
            return keras.Sequential([keras.Input(image_shape), scale, flat, dense])

        return model_fn


@pytest.mark.slow
def test_a_checkpoint_decides_what_a_layer_was_adapted_to(sets, tmp_path):
    spec, settings = AdaptedToChance("adapted"), run_settings("adapted", tmp_path / "m", sets)
    trained_to, found = train(spec, settings).metrics, evaluate(spec, settings).metrics
    both = {"loss", "accuracy", "log_loss"}
    assert both <= set(trained_to) & set(found)
    assert [found[n] for n in both] == pytest.approx([trained_to[n] for n in both], rel=1e-5)


class KillAt(Hook):
    """Ends this process as a power cut would, after the state was saved."""

    def after_step(self, run):
        if run.step == KILLED_AT:
            run.save()
            os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", FINE)
def test_each_is_trained_killed_resumed_evaluated_exported_and_reported(name, sets, tmp_path):
    def kill(straight, killed):
        program = [sys.executable, __file__, name, str(killed), *sets]
        folders = os.pathsep.join(path for path in sys.path if path)
        process = subprocess.run(program, env=os.environ | {"PYTHONPATH": folders})
        assert process.returncode == -signal.SIGKILL

    all_the_way(name, sets, tmp_path, kill)


if __name__ == "__main__":
    import conftest

    conftest.prepare_tensorflow()
    trained(sys.argv[1], sys.argv[2], sys.argv[3:], hooks=[KillAt()])
