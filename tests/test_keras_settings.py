"""Settings of Keras itself that would train nonsense in silence: refused by every verb."""

import json
import os
import subprocess
import sys

import keras
import pytest

from tf_image_classification import keras_settings
from tf_image_classification.cli.main import main
from tf_image_classification.config import make_settings
from tf_image_classification.errors import ConfigError, SpecError
from tf_image_classification.workflows.setup.environment import prepare_tensorflow
from tf_image_classification.workflows.setup.spec_check import check_spec
from tiny_runs import SIZE, plain_spec, run, write_records

FORMATS = {
    "image_data_format": (keras.config.set_image_data_format, "channels_first", "channels_last"),
    "floatx": (keras.config.set_floatx, "float16", "float32"),
}


@pytest.fixture(params=FORMATS)
def wrong_format(request):
    """A format that a program has set; its name and what the message says."""
    change, value, wanted = FORMATS[request.param]
    change(value)
    yield (
        request.param,
        (
            f"Keras's {request.param} is {value} (set by the program), but this package needs "
            f'{wanted}. Write keras.config.set_{request.param}("{wanted}").'
        ),
    )
    change(wanted)


VERBS = {
    "train": ["--backbone", "mobilenet_v1", "--train_metadata", "x"],
    "evaluate": ["--model_dir", "m", "--eval_metadata", "x"],
    "report": ["m"],
    "compare": ["m", "n"],
    "export": ["m", "--format", "litert"],
    "tune": ["--spec", "x.py:S", "--space", "s.yml", "--trials", "1", "--eval_metadata", "x"],
    "cross-validate": ["--backbone", "mobilenet_v1", "--train_metadata", "x"],
    "inspect": ["x", "--backbone", "mobilenet_v1", "--checkpoint_path", "w.h5"],
    "preview": ["--backbone", "mobilenet_v1", "--train_metadata", "x"],
    "find-learning-rate": ["--backbone", "mobilenet_v1", "--train_metadata", "x"],
    "find-batch-size": ["--backbone", "mobilenet_v1", "--train_metadata", "x"],
    "check-spec": ["nothing.py:Spec"],
}


def test_every_verb_that_uses_keras_refuses_it(wrong_format, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s.yml").write_text("learning_rate: {low: 0.001, high: 0.1}\n")
    for verb, line in VERBS.items():
        with pytest.raises(SystemExit) as ended:
            main([verb, *line])
        assert ended.value.code == 1, verb
        assert f"ConfigError: {wrong_format[1]}" in capsys.readouterr().err, verb
    assert sorted(os.listdir(tmp_path)) == ["s.yml"]


def test_a_training_from_python_refuses_it_before_anything_is_written(wrong_format, tmp_path):
    records = write_records(tmp_path / "r", count=6)
    with pytest.raises(ConfigError) as caught:
        run(plain_spec(), tmp_path / "m", records, train_steps=1)
    assert str(caught.value).startswith(wrong_format[1])
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize("name", FORMATS)
def test_what_a_model_fn_sets_is_refused_too(name):
    change, value, wanted = FORMATS[name]
    spec = plain_spec()
    build = spec.get_model_fn(None)

    def model_fn(image_shape, params):
        model = build(image_shape, params)
        change(value)
        return model

    spec.get_model_fn = lambda checkpoint_path: model_fn
    try:
        [broken] = check_spec(spec, make_settings({"image_size": SIZE}))
    finally:
        change(wanted)
    assert f"Keras's {name} is {value} (set by the program)" in broken


def test_a_policy_of_the_program_is_refused_unless_it_is_the_precision(tmp_path):
    records = write_records(tmp_path / "r", count=6)
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        expected = "sets Keras's dtype policy to mixed_bfloat16, but precision is float32.*Give "
        with pytest.raises(ConfigError, match=f"The program {expected}precision='mixed_bfloat16'"):
            run(plain_spec(), tmp_path / "m", records, train_steps=1)
        run(plain_spec(), tmp_path / "m", records, train_steps=1, precision="mixed_bfloat16")
    finally:
        keras.config.set_dtype_policy("float32")


def test_a_policy_that_a_model_fn_sets_is_refused():
    spec = plain_spec()
    build = spec.get_model_fn(None)

    def model_fn(image_shape, params):
        keras.config.set_dtype_policy("mixed_float16")
        return build(image_shape, params)

    spec.get_model_fn = lambda checkpoint_path: model_fn
    [broken] = check_spec(spec, make_settings({"image_size": SIZE}))
    assert broken.startswith(
        "model_fn sets Keras's dtype policy to mixed_float16, but precision is"
    )
    assert keras.config.dtype_policy().name == "float32"


@pytest.mark.slow
@pytest.mark.parametrize("how", ["environment", "file"])
def test_another_backend_is_refused_before_keras_is_imported(how, tmp_path):
    home = tmp_path / "keras"
    home.mkdir()
    environment = os.environ | {"KERAS_HOME": str(home), "TF_CPP_MIN_LOG_LEVEL": "2"}
    environment.pop("KERAS_BACKEND", None)
    if how == "environment":
        environment["KERAS_BACKEND"] = "jax"
    else:
        (home / "keras.json").write_text(json.dumps({"backend": "torch"}))
    command = [sys.executable, "-m", "tf_image_classification.cli.main", "train", "--backbone",
               "mobilenet_v1", "--train_metadata", "x"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    place = "KERAS_BACKEND" if how == "environment" else str(home / "keras.json")
    backend = "jax" if how == "environment" else "torch"
    assert f"ConfigError: Keras is set to the backend {backend} (in {place})" in done.stderr
    assert "Set KERAS_BACKEND=tensorflow" in done.stderr


def test_a_file_of_keras_is_named_with_what_to_write(tmp_path, wrong_format):
    name, _ = wrong_format
    _, value, wanted = FORMATS[name]
    path = tmp_path / "keras.json"
    path.write_text(json.dumps({name: value, "backend": "tensorflow"}))
    with pytest.raises(ConfigError) as caught:
        keras_settings.require({"KERAS_HOME": str(tmp_path)})
    assert (
        f'(in {path}), but this package needs {wanted}. Write "{name}": "{wanted}" there.'
        in str(caught.value)
    )
    path.write_text("no JSON")
    with pytest.raises(ConfigError, match="set by the program"):
        keras_settings.require({"KERAS_HOME": str(tmp_path)})


def test_usual_settings_are_no_matter(tmp_path):
    path = tmp_path / "keras.json"
    path.write_text(json.dumps({"floatx": "float32", "epsilon": 1e-7, "backend": "tensorflow"}))
    keras_settings.require({"KERAS_HOME": str(tmp_path), "KERAS_BACKEND": "tensorflow"})
    prepare_tensorflow(make_settings())


def test_a_model_of_keras_2_is_named():
    kind = type("Functional", (), {"__module__": "tf_keras.src.engine.functional"})
    spec = plain_spec()
    spec.get_model_fn = lambda checkpoint_path: lambda image_shape, params: kind()
    with pytest.raises(SpecError, match="of Keras 2: unset TF_USE_LEGACY_KERAS and import keras"):
        run_check(spec)


def run_check(spec):
    from tf_image_classification.workflows.setup.spec_check import require_spec

    require_spec(spec, make_settings({"image_size": SIZE}))
