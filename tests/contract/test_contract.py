"""The contract with those who know the package since 2018: names, flags, a whole script.

A user's script is run as a program, with the command line of the contract, its globs expanded by
the shell.
"""

import inspect
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

import tiny_runs
from tf_image_classification import estimator_specs, train_estimator, utils
from tf_image_classification.checkpoints.store import CheckpointStore
from tf_image_classification.dataset.tfrecord import write_shards
from tf_image_classification.errors import SpecError
from tf_image_classification.estimator_specs import EstimatorSpec
from tf_image_classification.labels import Label

pytestmark = pytest.mark.as_installed

MINI_MNIST = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "mini_mnist"

SCRIPT = """
import keras
import tensorflow as tf
from tf_image_classification import estimator_specs, train_estimator
from tf_image_classification import metrics


class MySpec(estimator_specs.EstimatorSpec):
    class_dict = [{"name": "class_id", "depth": 10, "one-hot": True}]

    def get_preproc_fn(self, is_training):
        def preproc(image, width, height):
            return tf.image.resize(image, [height, width]) / 255.0
        return preproc

    def get_model_fn(self, checkpoint_path):
        def model_fn(image_shape, params):
            inputs = keras.Input(image_shape)
            x = keras.layers.Flatten()(inputs)
            return keras.Model(inputs, keras.layers.Dense(10, name="logits")(x))
        return model_fn

    def metric_ops(self, labels, predictions):
        return {"accuracy": metrics.accuracy(labels["class_id"], predictions["class_id"])}


if __name__ == "__main__":
    train_estimator.train(MySpec())
"""

FLAGS_OF_THE_CONTRACT = [
    "model_dir",
    "checkpoint_path",
    "warm_start_ckpt",
    "train_metadata",
    "eval_metadata",
    "batch_size",
    "train_steps",
    "image_size",
    "eval_freq",
    "eval_throttle_secs",
    "debug",
    "learning_rate",
    "optimizer",
    "adadelta_rho",
    "adagrad_initial_accumulator_value",
    "adam_beta1",
    "adam_beta2",
    "opt_epsilon",
    "ftrl_learning_rate_power",
    "ftrl_initial_accumulator_value",
    "ftrl_l1",
    "ftrl_l2",
    "momentum",
    "rmsprop_momentum",
    "rmsprop_decay",
    "weight_decay",
    "learning_rate_decay_type",
    "end_learning_rate",
    "learning_rate_decay_factor",
    "num_epochs_per_decay",
    "label_smoothing",
    "moving_average_decay",
    "trainable_scopes",
    "checkpoint_exclude_scopes",
    "checkpoint_restore_scopes",
    "save_summary_steps",
    "save_checkpoints_steps",
    "save_checkpoints_secs",
    "keep_checkpoint_max",
    "export_saved_model",
    "evaluate",
    "labels",
    "output_cm_folder",
]


def run_script(script, line, cwd, cache):
    """Start a user's script through a shell, which expands the globs."""
    environment = os.environ | {"XDG_CACHE_HOME": str(cache), "TF_CPP_MIN_LOG_LEVEL": "2"}
    return subprocess.Popen(
        f"{sys.executable} {script} {line}",
        shell=True,
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(*processes):
    """The outputs of processes that all ended well."""
    texts = [process.communicate(timeout=300) for process in processes]
    for process, (out, err) in zip(processes, texts, strict=True):
        assert process.returncode == 0, out + err
    return [out for out, _ in texts]


def images(name, count):
    random = np.random.RandomState(count)
    for i in range(count):
        picture = random.randint(0, 256, [9, 7, 3], np.uint8)
        yield tf.io.encode_jpeg(picture).numpy(), f"{name}/{i}.jpg", {"class_id": float(i % 10)}


def weights(model_dir):
    store = CheckpointStore(str(model_dir / "checkpoints"))
    return {step: store.load(step).tensors for step in store.steps()}


# --- the names -------------------------------------------------------------------------------


def test_every_flag_of_the_contract_is_defined_in_train_estimator():
    assert [name for name in FLAGS_OF_THE_CONTRACT if name not in train_estimator.FLAGS] == []


def test_the_optimizers_and_rates_of_the_contract_are_choices():
    from tf_image_classification.config import OPTIONS

    optimizers = {"adadelta", "adagrad", "adam", "ftrl", "momentum", "sgd", "rmsprop"}
    assert optimizers <= set(OPTIONS["optimizer"].choices)
    rates = {"fixed", "exponential", "polynomial"}
    assert rates <= set(OPTIONS["learning_rate_decay_type"].choices)


def test_defaults_that_the_contract_gives_and_that_serve_are_kept():
    from tf_image_classification.config import OPTIONS

    for name, value in {
        "model_dir": "./models",
        "adadelta_rho": 0.95,
        "adagrad_initial_accumulator_value": 0.1,
        "ftrl_learning_rate_power": -0.5,
        "ftrl_initial_accumulator_value": 0.1,
        "ftrl_l1": 0.0,
        "ftrl_l2": 0.0,
        "rmsprop_momentum": 0.9,
        "rmsprop_decay": 0.9,
        "learning_rate_decay_factor": 0.94,
        "num_epochs_per_decay": 2.0,
        "label_smoothing": 0.0,
        "save_summary_steps": 100,
        "keep_checkpoint_max": 5,
        "export_saved_model": True,
        "eval_throttle_secs": 120.0,
        "debug": False,
    }.items():
        assert OPTIONS[name].default == value, name


METHODS = {
    "get_preproc_fn": ["is_training"],
    "get_model_fn": ["checkpoint_path"],
    "metric_ops": ["labels", "predictions"],
}
INPUT_FN = ["batch_size", "metadata", "class_dict", "is_tfrecord", "epochs", "image_size"]


def members(*, without=()):
    found = {name: lambda self, *_: None for name in METHODS if name not in without}
    return found | ({} if "class_dict" in without else {"class_dict": [Label("a", depth=2)]})


@pytest.mark.parametrize("missing", [*METHODS, "class_dict"])
def test_a_missing_member_is_a_type_error_at_construction_that_names_it(missing):
    with pytest.raises(TypeError, match=missing):
        type("MySpec", (EstimatorSpec,), members(without=[missing]))()


def test_a_complete_spec_can_be_made_and_may_set_class_dict_in_its_constructor():
    type("MySpec", (EstimatorSpec,), members())()

    def init(self):
        self.class_dict = [Label("a", depth=2)]

    type("MySpec", (EstimatorSpec,), members(without=["class_dict"]) | {"__init__": init})()


def test_the_methods_take_the_arguments_of_the_contract():
    for name, arguments in {**METHODS, "input_fn": [*INPUT_FN, "preproc_fn"]}.items():
        found = list(inspect.signature(getattr(EstimatorSpec, name)).parameters)
        assert found == ["self", *arguments]


def test_old_dictionaries_and_labels_mean_the_same():
    old = [
        {"name": "class_id", "depth": 10, "one-hot": True},
        {"name": "age", "depth": 1, "one-hot": False},
    ]
    spec = type("MySpec", (EstimatorSpec,), members() | {"class_dict": old})()
    schema = estimator_specs.schema_of(spec)
    assert schema.labels == (Label("class_id", depth=10), Label("age", depth=1, one_hot=False))


@pytest.mark.slow
@pytest.mark.exhaustive_after(3)
@pytest.mark.parametrize(
    ("entry", "shape"),
    [
        ({"name": "kind", "depth": 3, "one-hot": True}, [3]),
        ({"name": "kind", "depth": 3, "one_hot": True, "weight": 0.5}, [3]),
        ({"name": "kind", "depth": 3}, [3]),
        ({"name": "kind", "depth": 3, "kind": "class"}, []),
        ({"name": "kind", "depth": 3, "kind": "ordinal", "coding": "expectation"}, []),
        (Label("kind", depth=3), []),
        (Label("kind", depth=3, one_hot_rows=True), [3]),
    ],
)
def test_dictionaries_of_2018_give_one_hot_rows_and_labels_give_numbers(tmp_path, entry, shape):
    seen = {}

    class Spec(tiny_runs.TinySpec):
        def __init__(self):
            super().__init__(noise=0.0)
            self.class_dict = [entry]

        def metric_ops(self, labels, predictions):
            seen["metric_ops"] = labels["kind"]

        def losses(self, labels, logits):
            seen["losses"] = labels["kind"].shape[1:]
            if not shape:
                return None
            loss = tf.nn.softmax_cross_entropy_with_logits(labels["kind"], logits["kind"])
            return {"kind": loss}

    records = tiny_runs.write_records(tmp_path, count=12)
    saved = tiny_runs.run(Spec(), tmp_path / "m", records, records, train_steps=2)
    assert seen["metric_ops"].shape[1:] == seen["losses"] == shape
    if shape:  # and the same training as with the framework's loss of numbers
        rows = seen["metric_ops"].numpy()
        assert rows.dtype == np.float32 and (rows.sum(axis=1) == 1).all()
        weight = entry.get("weight", 1.0) if isinstance(entry, dict) else 1.0
        plain = tiny_runs.TinySpec(noise=0.0, weights=(weight,))
        expected = tiny_runs.run(plain, tmp_path / "n", records, records, train_steps=2)
        assert tiny_runs.largest_difference(saved, expected) < 1e-6


def test_rows_that_a_label_cannot_have_are_refused():
    with pytest.raises(SpecError, match="one_hot_rows, which a multilabel label does not have"):
        Label("tags", depth=3, kind="several", one_hot_rows=True)


def test_the_result_of_an_evaluation_is_indexed_by_metric_name():
    result = train_estimator.TrainResult("m", 7, {"acc": 0.5}, {"matrix": np.eye(2)})
    assert dict(result) | {"matrix": 0} == {"acc": 0.5, "matrix": 0, "global_step": 7}
    assert len(result) == 3 and "acc" in result and "loss" not in result
    with pytest.raises(KeyError, match="no metric 'ac'. Did you mean acc"):
        result["ac"]


def test_the_confusion_matrix_of_2018_is_drawn_into_a_new_folder(tmp_path):
    path = tmp_path / "new" / "cm.png"
    for labels, more in ((["cat\n", "dog\n"], {}), (["cat", "dog"], {"is_large": True})):
        matrix = np.array([[3.0, 1.0], [0.0, 2.0]])
        utils.draw_confusion_matrix(
            cm=matrix, title="Pets", labels=labels, output_path=str(path), **more
        )
        assert path.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(SpecError, match="counts"):
        utils.draw_confusion_matrix([[0.5, 1], [0, 2]], "Pets", ["cat", "dog"], str(path))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("configure_learning_rate", "--learning_rate_decay_type"),
        ("configure_optimizer", "--optimizer"),
        ("get_variables_to_restore", "--checkpoint_exclude_scopes"),
        ("get_variables_to_train", "--trainable_scopes"),
    ],
)
def test_helpers_of_a_graph_name_what_takes_their_place(name, expected):
    with pytest.raises(SpecError, match=f"utils.{name}: .*{expected}"):
        getattr(utils, name)(100, 0)


def test_a_helper_of_2018_that_is_gone_names_what_takes_its_place():
    with pytest.raises(AttributeError, match="expand_patterns"):
        _ = utils.list_tfrecord
    with pytest.raises(SpecError, match="num_classes is not given"):
        utils.streaming_confusion_matrix("cm", [0], [0])


def test_settings_are_params_by_key_and_by_attribute():
    params = estimator_specs.Params({"batch_size": 4})
    assert params.batch_size == params["batch_size"] == 4
    with pytest.raises(AttributeError, match="no setting 'bach_size'. Did you mean batch_size"):
        _ = params.bach_size


# --- input_fn --------------------------------------------------------------------------------


@pytest.mark.parametrize("is_tfrecord", [True, False])
def test_the_base_class_yields_image_batches_and_label_batches(tmp_path, is_tfrecord):
    rows = list(images("train", 5))
    if is_tfrecord:
        write_shards(str(tmp_path), "train", rows)
        metadata = str(tmp_path / "train*")
    else:
        metadata = str(tmp_path / "train.csv")
        lines = ["URIs,labels"]
        for i, (data, _, labels) in enumerate(rows):
            (tmp_path / f"{i}.jpg").write_bytes(data)
            lines.append(f"{i}.jpg,{labels['class_id']:.0f}")
        Path(metadata).write_text("\n".join(lines))
    class_dict = [{"name": "class_id", "depth": 10, "one-hot": True}]
    spec = type("MySpec", (EstimatorSpec,), members() | {"class_dict": class_dict})()

    def preproc(image, width, height):
        return tf.image.resize(image, [height, width])

    make = spec.input_fn(2, metadata, class_dict, is_tfrecord, 2, 6, preproc)
    batches = list(make())
    assert [tuple(image.shape) for image, _ in batches] == [(2, 6, 6, 3)] * 5
    counted = np.concatenate([labels["class_id"].numpy() for _, labels in batches])
    assert sorted(counted) == sorted([0, 1, 2, 3, 4] * 2)


# --- a whole script --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The home of the contract's command line after it ran for 6 steps, and what it printed."""
    home = tmp_path_factory.mktemp("home")
    (home / "myEstimator.py").write_text(SCRIPT)
    records = home / "tfrecords_path"
    write_shards(str(records), "train", images("train", 24), num_shards=3)
    write_shards(str(records), "eval", images("eval", 26), num_shards=2)
    (home / "checkpoint_path").mkdir()
    pretrained = {
        "logits/kernel": np.full([8 * 8 * 3, 10], 0.25, np.float32),
        "logits/bias": np.arange(10, dtype=np.float32),
        "global_step": np.int64(7),
    }
    tf.raw_ops.SaveV2(
        prefix=str(home / "checkpoint_path" / "pretrained_ckpt.ckpt"),
        tensor_names=list(pretrained),
        shape_and_slices=[""] * 3,
        tensors=list(pretrained.values()),
    )
    return home, output_of_the_script(home, steps=6, checkpoint="checkpoint_path")


@pytest.fixture(scope="module")
def restarted(trained):
    """The same after it was started again for 9 steps, the pretrained checkpoint gone."""
    home, _ = trained
    for path in (home / "checkpoint_path").iterdir():
        path.unlink()
    return home, output_of_the_script(home, steps=9, checkpoint="warm_start_ckpt")


def output_of_the_script(home, *, steps, checkpoint):
    line = (
        f"--batch_size 2 --train_steps {steps} --train_metadata tfrecords_path/train* "
        "--eval_metadata tfrecords_path/eval* "
        f"--{checkpoint} checkpoint_path/pretrained_ckpt.ckpt --model_dir ./models "
        "--eval_freq 10 --eval_throttle_secs 30 --learning_rate 0.00001 --image_size 8 "
        "--keep_checkpoint_max -1"
    )
    (output,) = finished(run_script("myEstimator.py", line, home, home / "cache"))
    return output


def test_the_script_uses_every_file_that_the_shell_expanded(trained):
    _, first = trained
    assert "train: 24 examples, 6 steps of 2" in first
    assert "evaluation: 26 examples" in first


def test_the_script_starts_from_the_named_checkpoint(trained):
    home, first = trained
    assert "2 variables loaded" in first
    report = json.loads((home / "models" / "warm_start.json").read_text())
    assert sorted(report["loaded"]) == ["logits/bias", "logits/kernel"]
    assert report["unused"] == ["global_step"]
    begun = weights(home / "models")[0]
    np.testing.assert_array_equal(begun["model/logits/bias"], np.arange(10))
    np.testing.assert_array_equal(begun["model/logits/kernel"], 0.25)


def test_one_evaluation_takes_eval_freq_batches(trained):
    _, first = trained
    assert "evaluation of step 6 on 20 examples" in first


def test_the_script_leaves_checkpoints_summaries_and_an_exported_model(trained):
    home, first = trained
    folder = home / "models"
    assert list((folder / "tensorboard" / "eval").glob("events*"))
    assert (folder / "saved_model" / "saved_model.pb").exists()
    assert "tensorboard --logdir ./models/tensorboard" in first
    served = tf.saved_model.load(str(folder / "saved_model"))
    data = [tf.io.encode_png(np.zeros([5, 4, 3], np.uint8)).numpy()]
    assert served.serve(tf.constant(data))["class_id_probabilities"].shape == [1, 10]


@pytest.mark.slow
def test_steps_are_counted_over_restarts_and_the_checkpoint_is_not_loaded_again(restarted):
    home, again = restarted
    assert "resumed at step 6, from" in again
    assert sorted(weights(home / "models")) == [0, 6, 9]
    final = weights(home / "models")[9]
    assert np.abs(final["model/logits/bias"] - np.arange(10)).max() < 1e-3  # 9 steps of 1e-5


@pytest.mark.slow
def test_every_evaluation_is_kept(restarted):
    home, again = restarted
    lines = [json.loads(x) for x in (home / "models" / "metrics.jsonl").read_text().splitlines()]
    assert [(line["step"], line["num_examples"]) for line in lines] == [(6, 20), (9, 20)]
    assert "evaluation of step 9 on 20 examples" in again
    assert all(0 <= line["accuracy"] <= 1 for line in lines)


# --- the old framework's own data ------------------------------------------------------------


@pytest.fixture(scope="module")
def old_runs(tmp_path_factory):
    """The old example data as records, and as CSVs with paths from the working directory."""
    if not MINI_MNIST.exists():
        pytest.skip(f"no {MINI_MNIST}")
    home = tmp_path_factory.mktemp("old")
    (home / "myEstimator.py").write_text(SCRIPT)
    common = (
        "--batch_size 32 --train_steps 60 --image_size 8 --learning_rate 0.02 --noprogress "
        "--labels labels.txt "
    )
    lines = {
        "records": "--train_metadata dataset/tf_records/train* "
        "--eval_metadata dataset/tf_records/eval* ",
        "csv": "--train_metadata dataset/trainset_local.csv "
        "--eval_metadata dataset/evalset_local.csv ",
    }
    running = {
        kind: run_script(
            home / "myEstimator.py",
            f"{common}{line} --model_dir {home / kind}",
            MINI_MNIST,
            home / "cache",
        )
        for kind, line in lines.items()
    }
    return home, dict(zip(running, finished(*running.values()), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["records", "csv"])
def test_the_old_example_data_trains_and_learns(old_runs, kind):
    home, outputs = old_runs
    assert "train: 418 examples, 60 steps of 32" in outputs[kind]
    assert "evaluation of step 60 on 182 examples" in outputs[kind]
    (line,) = (json.loads(x) for x in (home / kind / "metrics.jsonl").read_text().splitlines())
    assert line["accuracy"] > 0.5


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["records", "csv"])
def test_the_class_names_are_the_lines_of_the_labels_file(old_runs, kind):
    home, _ = old_runs
    (label,) = json.loads((home / kind / "labels.json").read_text())
    assert label["class_names"] == (MINI_MNIST / "labels.txt").read_text().split()
    served = tf.saved_model.load(str(home / kind / "saved_model"))
    data = [p.read_bytes() for p in sorted((MINI_MNIST / "dataset" / "7").iterdir())[:20]]
    names = served.serve(tf.constant(data))["class_id_class_name"].numpy().tolist()
    assert names.count(b"seven") > 10
