"""Programs as people wrote them for the first version, run as their owners would run them."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tf_image_classification import make_settings, tf1_code
from tf_image_classification.cli.main import main
from tf_image_classification.dataset.tfrecord import write_shards
from tf_image_classification.estimator_specs import EstimatorSpec
from tf_image_classification.workflows.setup.spec_check import check_spec

pytestmark = pytest.mark.as_installed

NAMES = ["zero", "one", "two", "three"]

# The reference program with its model_fn written for Keras and nothing else but imports changed.
DIGITS = """
import json
import os

import keras
import numpy as np
import tensorflow.compat.v1 as tf
from tf_image_classification import estimator_specs, metrics, train_estimator, utils
from tf_image_classification.hooks import LoadCheckpointHook

FLAGS = tf.app.flags.FLAGS
tf.app.flags.DEFINE_boolean(flag_name="evaluate", default_value=False, docstring="Only evaluate")
tf.app.flags.DEFINE_string("labels", None, "File of class names")
tf.app.flags.DEFINE_string(name="output_cm_folder", default=None, help="Where the picture goes")


class Digits(estimator_specs.EstimatorSpec):

    def __init__(self):
        super(Digits, self).__init__()
        self.class_dict = [{"name": "class_id", "depth": 4, "one-hot": True}]

    def get_preproc_fn(self, is_training):
        def _preproc(image, width, height):
            resized = tf.image.resize_images(tf.to_float(image), [height, width])
            return tf.multiply(tf.subtract(tf.divide(resized, 255.0), 0.5), 2)
        return _preproc

    def get_model_fn(self, checkpoint_path):
        self.load_checkpoint_hook = LoadCheckpointHook()

        def model_fn(image_shape, params):
            assert FLAGS.batch_size == params.batch_size == params["batch_size"]
            image = keras.Input(image_shape)
            logits = keras.layers.Dense(4, name="logits")(keras.layers.Flatten()(image))
            return keras.Model(image, logits)
        return model_fn

    def metric_ops(self, labels, predictions):
        truth = tf.argmax(labels["class_id"], axis=1)
        found = predictions["class_id"]
        matrix = utils.streaming_confusion_matrix(
            name="matrix", label=truth, prediction=found, num_classes=4)
        return {
            "Accuracy": metrics.accuracy(labels=truth, predictions=found, name="accuracy"),
            "Recall": metrics.recall(labels=truth, predictions=found, name="recall",
                                     num_classes=4, average="macro"),
            "Confusion_Matrix": matrix,
        }


if __name__ == "__main__":
    digits = Digits()
    if FLAGS.evaluate:
        labels = tf.gfile.GFile(FLAGS.labels).readlines()
        found = train_estimator.evaluate(digits)
        tf.logging.info("Metrics: {}".format(found))
        picture = os.path.join(FLAGS.output_cm_folder, "digits.png")
        utils.draw_confusion_matrix(
            cm=found["Confusion_Matrix"], title="Digits", labels=labels, output_path=picture)
        plain = {name: np.asarray(value).tolist() for name, value in found.items()}
        print("RESULT " + json.dumps(plain))
    else:
        train_estimator.train(digits)
"""

# Two labels, own losses on one-hot rows, a run through absl's app, and flags before the import.
FACES = """
from absl import app, flags

flags.DEFINE_integer("epochs", 99, "Of the program's own report")
flags.DEFINE_string("labels", None, "File of class names")

import keras
import numpy as np
import tensorflow as tf
from tf_image_classification import metrics, train_estimator
from tf_image_classification.estimator_specs import EstimatorSpec
from tf_image_classification.hooks import IteratorInitializerHook, LoadCheckpointHook

FLAGS = flags.FLAGS


class Faces(EstimatorSpec):
    class_dict = [
        {"name": "kind", "depth": 4},
        {"name": "age", "depth": 1, "one-hot": False},
    ]

    def get_preproc_fn(self, is_training):
        return lambda image, width, height: tf.image.resize(image, [height, width]) / 255.0

    def get_model_fn(self):
        self.iterator_initializer_hook = IteratorInitializerHook()
        self.load_checkpoint_hook = LoadCheckpointHook()
        self.load_checkpoint_hook.load_checkpoint_initializer_func = self.fill

        def model_fn(image_shape, params):
            image = keras.Input(image_shape)
            x = keras.layers.Flatten()(image)
            kind = keras.layers.Dense(4, name="kind_logits")(x)
            age = keras.layers.Dense(1, name="age_value")(x)
            return keras.Model(image, {"kind": kind, "age": age})
        return model_fn

    def fill(self, run):
        bias = np.array([3.0, 0.0, 0.0, 0.0], "float32")
        run.model.get_layer("kind_logits").bias.assign(bias)
        print("FILLED", run.step)

    def losses(self, labels, logits):
        kind = tf.nn.softmax_cross_entropy_with_logits(labels["kind"], logits["kind"])
        return {"kind": kind, "age": tf.square(labels["age"] - logits["age"])}

    def metric_ops(self, labels, predictions):
        return {
            "kind_right": metrics.accuracy(labels["kind"], predictions["kind"]),  # rows as they are
            "age_error": metrics.mean_absolute_error(labels["age"], predictions["age"], name="mae"),
        }


def main(argv):
    print("EPOCHS", FLAGS.epochs, FLAGS.learning_rate)
    train_estimator.train(Faces())


if __name__ == "__main__":
    app.run(main)
"""

# As it was: a graph for an Estimator, on the module of TensorFlow 1 that TensorFlow 2 still has.
GRAPH = """
import tensorflow.compat.v1 as tf
from small_network import network
from tf_image_classification import estimator_specs, train_estimator, utils


class Graph(estimator_specs.EstimatorSpec):
    def __init__(self):
        self.class_dict = [{"name": "class_id", "depth": 4, "one-hot": True}]

    def get_preproc_fn(self, is_training):
        return lambda image, width, height: tf.image.resize_images(image, [height, width]) / 255.0

    def get_model_fn(self, checkpoint_path):
        def model_fn(features, labels, mode, params):
            logits = network(features, mode == "train")
            loss = tf.losses.softmax_cross_entropy(labels["class_id"], logits)
            loss += tf.losses.get_regularization_loss()
            rate = utils.configure_learning_rate(params.num_samples_per_epoch, 0)
            step = utils.configure_optimizer(rate).minimize(
                loss, var_list=utils.get_variables_to_train())
            return loss, step
        return model_fn

    def metric_ops(self, labels, predictions):
        truth = tf.argmax(labels["class_id"], axis=1)
        return {"Accuracy": tf.metrics.accuracy(truth, predictions["class_id"], name="accuracy")}


if __name__ == "__main__":
    train_estimator.train(Graph())
"""

NETWORK = """
import tensorflow as tf


def network(inputs, is_training):
    with tf.variable_scope("Small"):
        net = tf.layers.conv2d(inputs, 8, 3, activation=tf.nn.relu)
        net = tf.layers.flatten(net)
        return tf.layers.dense(net, 4, kernel_regularizer=tf.contrib.layers.l2_regularizer(0.1))
"""

# With the imports of 2018 it cannot even be imported.
OLDEST = """
import tensorflow as tf
from tensorflow.contrib.learn import ModeKeys
from tf_image_classification import estimator_specs, train_estimator

FLAGS = tf.app.flags.FLAGS
tf.app.flags.DEFINE_boolean(name="evaluate", default=False, help="Evaluation mode")


class Oldest(estimator_specs.EstimatorSpec):
    class_dict = [{"name": "class_id", "depth": 4}]

    def get_preproc_fn(self, is_training):
        return lambda image, width, height: tf.image.resize_images(tf.to_float(image), [9, 9])

    def get_model_fn(self, checkpoint_path):
        def model_fn(features, labels, mode, params):
            return tf.train.AdamOptimizer(0.1), tf.train.get_global_step(), ModeKeys.TRAIN
        return model_fn

    def metric_ops(self, labels, predictions):
        return {}
"""


def examples(count):
    random = np.random.RandomState(count)
    for i in range(count):
        kind = i % 4
        picture = random.randint(0, 120, [8, 8, 3], np.uint8)
        picture[:, 2 * kind : 2 * kind + 2] += 120
        labels = {"class_id": float(kind), "kind": float(kind), "age": 1.0 * kind}
        yield tf.io.encode_png(picture).numpy(), f"{i}.png", labels


def start(program, home, line):
    environment = os.environ | {"XDG_CACHE_HOME": str(home / "cache"), "TF_CPP_MIN_LOG_LEVEL": "2"}
    return subprocess.run(
        f"{sys.executable} {program} {line}",
        shell=True,  # it expands the globs
        cwd=home,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with records, class names and the programs."""
    folder = tmp_path_factory.mktemp("home")
    write_shards(str(folder / "records"), "train", examples(40), num_shards=3)
    write_shards(str(folder / "records"), "eval", examples(22), num_shards=2)
    (folder / "labels.txt").write_text("\n".join(NAMES) + "\n")
    programs = {
        "train_digits": DIGITS, "train_faces": FACES, "train_graph": GRAPH,
        "small_network": NETWORK, "train_oldest": OLDEST,
    }  # fmt: skip
    for name, text in programs.items():
        (folder / f"{name}.py").write_text(text)
    return folder


COMMON = (
    "--batch_size 4 --image_size 8 --eval_metadata records/eval* --learning_rate 0.01 --noprogress "
)


@pytest.mark.slow
def test_the_reference_program_trains_evaluates_and_draws(home):
    data = "--train_metadata records/train* --train_steps 40 --eval_freq 3 --eval_throttle_secs 30"
    trained = start("train_digits.py", home, f"{COMMON} {data} --model_dir m")
    assert trained.returncode == 0, trained.stderr
    line = json.loads((home / "m" / "metrics.jsonl").read_text().splitlines()[-1])
    assert line["num_examples"] == 12 and len(line["Confusion_Matrix"]) == 4

    # Without class names in training the model knows its classes by number; the names are for the
    # picture.
    more = "--evaluate --labels labels.txt --output_cm_folder pictures --model_dir m"
    evaluated = start("train_digits.py", home, COMMON + more)
    assert evaluated.returncode == 0, evaluated.stderr
    found = json.loads(re.search("RESULT (.*)", evaluated.stdout)[1])
    matrix = np.array(found["Confusion_Matrix"])
    assert matrix.sum(axis=1).tolist() == [6, 6, 5, 5]
    assert found["Accuracy"] == pytest.approx(np.trace(matrix) / 22)
    assert found["Accuracy"] > 0.9
    assert found["Recall"] == pytest.approx((np.diag(matrix) / matrix.sum(axis=1)).mean())
    assert found["global_step"] == 40 and found["loss"] > 0
    for name in ("digits.png", "confusion_matrix_class_id.png"):
        assert (home / "pictures" / name).read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_two_labels_own_losses_kept_hooks_and_own_flags_work(home):
    data = "--train_metadata records/train* --train_steps 60"
    done = start(
        "train_faces.py", home, f"{COMMON} {data} --epochs 5 --labels kind=labels.txt --model_dir f"
    )
    assert done.returncode == 0, done.stderr
    assert "EPOCHS 5 0.01" in done.stdout and done.stdout.count("FILLED 0") == 1
    assert "--epochs is a flag of the program itself" in done.stderr
    line = json.loads((home / "f" / "metrics.jsonl").read_text().splitlines()[-1])
    assert line["step"] == 60 and line["kind_right"] > 0.9 and line["age_error"] < 0.6
    (kind, _) = json.loads((home / "f" / "labels.json").read_text())
    assert kind["class_names"] == NAMES


@pytest.mark.slow
def test_a_graph_for_an_estimator_ends_with_its_translation_before_anything_is_written(home):
    data = "--train_metadata records/train* --train_steps 4 --model_dir g"
    done = start("train_graph.py", home, COMMON + data)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "train_graph.py line 15: model_fn(features, labels, mode, params)" in done.stderr
    assert "def model_fn(image_shape, params)" in done.stderr
    assert "11 lines are TensorFlow 1 code; tfic check-spec" in done.stderr
    assert not (home / "g").exists()


def checked(home, reference, capsys):
    assert main(["check-spec", f"{home}/{reference}", "--image_size", "8"]) == 1
    return capsys.readouterr().out.replace(f"{home}/", "").splitlines()


def test_check_spec_names_every_line_of_a_graph_and_what_to_write(home, capsys):
    lines = checked(home, "train_graph.py:Graph", capsys)
    expected = [
        "train_graph.py line 15: def model_fn: model_fn(features, labels, mode, params) builds",
        "train_graph.py line 18: tf.losses.get_regularization_loss: remove it",
        "train_graph.py line 19: utils.configure_learning_rate: the framework computes",
        "train_graph.py line 27: tf.metrics.accuracy: write metrics.accuracy(...)",
        "small_network.py line 6: tf.variable_scope: remove it",
        "small_network.py line 7: tf.layers.conv2d: write keras.layers.Conv2D(",
        "small_network.py line 8: tf.layers.flatten: write keras.layers.Flatten()",
        "small_network.py line 9: tf.layers.dense: write keras.layers.Dense(",
        "small_network.py line 9: tf.contrib.layers.l2_regularizer: write keras.regularizers.L2(",
    ]
    for text in expected:
        assert any(line.startswith(f"broken: {text}") for line in lines), (text, lines)
    # What tensorflow.compat.v1 still does is not named, and a function that works is not either.
    assert not any("resize_images" in line or "tf.nn.relu" in line for line in lines)


def test_check_spec_names_the_lines_of_a_program_that_cannot_be_imported(home, capsys):
    lines = checked(home, "train_oldest.py:Oldest", capsys)
    assert "line 3: ModuleNotFoundError: No module named 'tensorflow.contrib'" in lines[0]
    expected = [
        "line 3: from tensorflow.contrib.learn import ModeKeys: remove it: there is no mode",
        "line 6: tf.app.flags.FLAGS: write absl.flags, or import tensorflow.compat.v1 as tf",
        "line 14: tf.image.resize_images: write tf.image.resize",
        "line 14: tf.to_float: write tf.cast(x, tf.float32)",
        "line 17: def model_fn: ",
        "line 18: tf.train.AdamOptimizer: remove it: --optimizer",
        "line 18: tf.train.get_global_step: remove it: the framework counts",
    ]
    for text in expected:
        assert any(line.startswith(f"broken: train_oldest.py {text}") for line in lines), lines


def test_every_verb_tells_of_a_program_that_cannot_be_imported(home, capsys):
    line = ["train", "--spec", f"{home}/train_oldest.py:Oldest", "--train_metadata", "x"]
    with pytest.raises(SystemExit):
        main(line)
    text = capsys.readouterr().err
    assert "line 3: ModuleNotFoundError" in text and "tfic check-spec" in text


GUIDE = Path(__file__).parents[2] / "docs" / "coming_from" / "migrate.md"


def test_the_translation_in_the_guide_keeps_the_contract():
    parts = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    names = {}
    for part in parts:
        exec(part, names)
    members = {name: names[name] for name in ("get_model_fn", "metric_ops")}

    def get_preproc_fn(self, is_training):
        return lambda image, width, height: tf.image.resize(image, [height, width]) / 255.0

    class_dict = [{"name": "class_id", "depth": 10, "one-hot": True}]
    members |= {"get_preproc_fn": get_preproc_fn, "class_dict": class_dict}
    spec = type("Digits", (EstimatorSpec,), members)()
    assert check_spec(spec, make_settings({"image_size": 8})) == []


def test_every_old_line_of_the_guide_is_found(tmp_path):
    old = re.search(r"```text\n(.*?)```", GUIDE.read_text(), re.DOTALL)[1]
    path = tmp_path / "old.py"
    path.write_text(f"import tensorflow as tf\nfrom tf_image_classification import utils\n{old}")
    found = {finding.code for finding in tf1_code.find(str(path))}
    works = {"tf.nn.relu", "tf.argmax", "tf.control_dependencies"}
    names = set(re.findall(r"\b(?:tf|utils)\.[\w.]+", old)) - works
    assert found == names | {"def model_fn"}


def test_what_works_is_not_found(tmp_path):
    path = tmp_path / "today.py"
    path.write_text(
        "import tensorflow as tf\n"
        "import tensorflow.compat.v1 as v1\n"
        "from tensorflow.compat import v1 as old\n"
        "import preprocessing\n"
        "v1.to_float(1); old.gfile.GFile; tf.io.gfile.glob; tf.image.resize; v1.app.flags\n"
        "tf.compat.v1.flags; tf.train.Example; tf.keras.layers.Dense; tf.metrics.Accuracy\n"
        "def input_fn(batch_size, labels): pass\n"
    )
    (tmp_path / "preprocessing.py").write_text("")
    assert tf1_code.find(str(path)) == []
    path.write_text("print 'hello'\n")
    [finding] = tf1_code.find(str(path))
    assert finding.line == 1 and "Python 3 cannot read this: Missing parentheses" in finding.advice
