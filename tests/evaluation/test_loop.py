"""Evaluation: every example once, metrics as NumPy has them, and through the front door."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_image_classification import EstimatorSpec, evaluate, make_settings, metrics, train
from tf_image_classification.batches import PADDING_ID, Batch
from tf_image_classification.checkpoints.store import CheckpointStore
from tf_image_classification.cli import main
from tf_image_classification.dataset.tfrecord import write_shards
from tf_image_classification.errors import ConfigError, DataError, LabelError, SpecError
from tf_image_classification.evaluation.loop import MAX_CLASSES_OF_MATRIX, evaluate_batches
from tf_image_classification.labels import Label, LabelSchema
from tf_image_classification.optim.losses import label_losses
from tf_image_classification.train_estimator import FLAGS
from tiny_runs import SIZE, tiny_settings

LABELS = (
    Label("kind", depth=3, weight=2.0),
    Label("colour", depth=2, missing=-1),
    Label("size", one_hot=False, weight=0.5),
)
SCHEMA = LabelSchema(LABELS)
NUM_EXAMPLES = 11


def softmax(logits):
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def cross_entropy(logits, classes, smoothing=0.0):
    target = np.eye(logits.shape[1])[classes] * (1 - smoothing) + smoothing / logits.shape[1]
    return -(target * np.log(softmax(logits))).sum(axis=1)


def huber(error, delta):
    size = np.minimum(abs(error), delta)
    return size**2 / 2 + delta * (abs(error) - size)


def expected_metrics(labels, known, logits, *, smoothing=0.0, delta=None):
    """What an evaluation must give, with NumPy alone: loss and metrics by label kind."""
    found = {"loss": 0.0}
    for label in LABELS:
        rows = known[label.name]
        true, out = labels[label.name][rows], logits[label.name][rows].astype(np.float64)
        if label.is_class:
            loss = cross_entropy(out, true, smoothing)
            found[f"{label.name}/accuracy"] = (out.argmax(axis=1) == true).mean()
            found[f"{label.name}/log_loss"] = cross_entropy(out, true).mean()
        else:
            error = out - true
            loss = error**2 if delta is None else huber(error, delta)
            found[f"{label.name}/mean_absolute_error"] = abs(error).mean()
            found[f"{label.name}/root_mean_squared_error"] = np.sqrt((error**2).mean())
        found["loss"] += label.weight * loss.mean()
    return found


def assert_metrics(found, expected, *, rel=1e-5):
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=rel, abs=1e-6), name


# --- batches ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def examples():
    random = np.random.RandomState(0)
    labels = {
        "kind": random.randint(0, 3, NUM_EXAMPLES),
        "colour": random.randint(0, 2, NUM_EXAMPLES),
        "size": random.normal(size=NUM_EXAMPLES).astype(np.float32),
    }
    known = {name: random.uniform(size=NUM_EXAMPLES) < 0.7 for name in labels}
    known["kind"][:] = True
    known["kind"][[2, 5]] = False
    logits = {
        "kind": random.normal(size=[NUM_EXAMPLES, 3]).astype(np.float32),
        "colour": random.normal(size=[NUM_EXAMPLES, 2]).astype(np.float32),
        "size": random.normal(size=NUM_EXAMPLES).astype(np.float32),
    }
    return labels, known, logits


def batches_of(examples, batch_size, max_batches=None):
    """The examples in batches; the last one is padded with what must not count."""
    labels, known, logits = examples
    for number, first in enumerate(range(0, NUM_EXAMPLES, batch_size)):
        if number == max_batches:
            return
        rows = np.arange(first, first + batch_size)
        ids = np.where(rows < NUM_EXAMPLES, rows, PADDING_ID)
        rows = np.minimum(rows, NUM_EXAMPLES - 1)
        is_row = ids != PADDING_ID

        yield (
            Batch(
                tf.zeros([batch_size, 1, 1, 1]),
                {n: tf.constant(v[rows]) for n, v in labels.items()},
                {n: tf.constant(v[rows] & is_row) for n, v in known.items()},
                tf.constant(ids),
            ),
            {n: tf.constant(v[rows]) for n, v in logits.items()},
        )


def losses_of(**changes):
    settings = make_settings(changes).training
    return lambda labels, logits: label_losses(SCHEMA, settings, labels, logits)


@pytest.mark.slow_after(5)
@pytest.mark.parametrize("batch_size", range(1, NUM_EXAMPLES + 4))
def test_each_example_counts_once_whatever_the_batch_size(examples, batch_size):
    found = evaluate_batches(
        batches_of(examples, batch_size), SCHEMA, metric_fn=None, loss_fn=losses_of()
    )
    assert found.num_examples == NUM_EXAMPLES
    assert_metrics(found.scalars(), expected_metrics(*examples))
    labels, known, logits = examples
    matrix = np.zeros([3, 3], np.int64)
    rows = known["kind"]
    np.add.at(matrix, (labels["kind"][rows], logits["kind"][rows].argmax(axis=1)), 1)
    np.testing.assert_array_equal(found.confusion["kind"], matrix)
    assert found.confusion["colour"].sum() == known["colour"].sum()
    assert set(found.confusion) == {"kind", "colour"}


def test_the_metrics_of_some_batches_are_those_of_their_examples(examples):
    found = evaluate_batches(batches_of(examples, 3, 2), SCHEMA, metric_fn=None)
    assert found.num_examples == 6
    some = tuple({n: v[:6] for n, v in part.items()} for part in examples)
    expected = expected_metrics(*some)
    del expected["loss"]
    assert_metrics(found.scalars(), expected)
    assert "loss" not in found.metrics


@pytest.mark.parametrize(
    ("changes", "arguments"),
    [
        ({"label_smoothing": 0.2}, {"smoothing": 0.2}),
        ({"regression_loss": "huber", "huber_delta": 0.3}, {"delta": 0.3}),
        ({"regression_loss": "huber"}, {"delta": 1.0}),
    ],
    ids=str,
)
def test_the_loss_is_that_of_the_settings(examples, changes, arguments):
    found = evaluate_batches(
        batches_of(examples, 4), SCHEMA, metric_fn=None, loss_fn=losses_of(**changes)
    )
    assert_metrics(found.scalars(), expected_metrics(*examples, **arguments))


def test_a_loss_that_is_no_number_shows_and_a_label_that_nobody_has_does_not(examples):
    labels, known, logits = examples
    nobody = (labels, known | {"colour": np.zeros_like(known["colour"])}, logits)

    def loss_of(values):
        def loss_fn(labels, logits):
            return {name: tf.fill([len(labels[name])], values[name]) for name in labels}

        found = evaluate_batches(batches_of(nobody, 4), SCHEMA, metric_fn=None, loss_fn=loss_fn)
        return found.metrics["loss"]

    fine = {"kind": 1.0, "colour": np.nan, "size": 4.0}
    assert loss_of(fine) == pytest.approx(2.0 * 1.0 + 0.5 * 4.0)
    assert np.isnan(loss_of(fine | {"size": np.nan}))


def test_a_label_of_very_many_classes_has_no_matrix():
    schema = LabelSchema((Label("kind", depth=MAX_CLASSES_OF_MATRIX + 1),))
    batch = Batch(
        tf.zeros([2, 1, 1, 1]),
        {"kind": tf.constant([0, 1000])},
        {"kind": tf.constant([True, True])},
        tf.constant([0, 1]),
    )
    logits = {"kind": tf.one_hot([0, 7], MAX_CLASSES_OF_MATRIX + 1)}
    found = evaluate_batches([(batch, logits)], schema, metric_fn=None)
    assert found.metrics["accuracy"] == 0.5 and not found.confusion


def test_a_metric_cannot_take_the_name_of_the_loss(examples):
    with pytest.raises(SpecError, match="metric 'loss', one of the names"):
        evaluate_batches(
            batches_of(examples, 4),
            SCHEMA,
            metric_fn=lambda labels, predictions: {"loss": metrics.mean(labels["size"])},
        )


def test_regularisation_is_added_once(examples):
    plain, more = (
        evaluate_batches(
            batches_of(examples, 4),
            SCHEMA,
            metric_fn=None,
            loss_fn=losses_of(),
            regularisation=value,
        ).metrics["loss"]
        for value in (0.0, 2.5)
    )
    assert more == pytest.approx(plain + 2.5)


def test_the_specs_own_metrics_see_known_labels_only(examples):
    seen = []

    def metric_fn(labels, predictions):
        seen.append({n: len(v) for n, v in labels.items()})
        assert {n: len(predictions[n]) for n in labels} == seen[-1]
        assert predictions["colour_probabilities"].shape == [seen[-1]["colour"], 2]
        assert predictions["kind_logits"].shape == [seen[-1]["kind"], 3]
        assert predictions["size"].shape == [seen[-1]["size"]]
        return {"mine": metrics.accuracy(labels["kind"], predictions["kind"])}

    found = evaluate_batches(batches_of(examples, 4), SCHEMA, metric_fn=metric_fn)
    assert list(found.metrics) == ["mine"]
    assert {n: sum(part[n] for part in seen) for n in SCHEMA.names} == {
        n: int(v.sum()) for n, v in examples[1].items()
    }
    assert found.metrics["mine"] == pytest.approx(expected_metrics(*examples)["kind/accuracy"])


def test_arrays_are_metrics_but_no_scalars(examples):
    found = evaluate_batches(
        batches_of(examples, 4),
        SCHEMA,
        metric_fn=lambda labels, predictions: {
            "matrix": metrics.confusion_matrix(labels["kind"], predictions["kind"], 3)
        },
    )
    assert found.metrics["matrix"].shape == (3, 3)
    assert found.scalars() == {}


def test_an_evaluation_of_nothing_is_an_error(examples):
    _labels, _known, _logits = examples
    nothing = [
        (batch._replace(ids=tf.fill([4], PADDING_ID)), out)
        for batch, out in batches_of(examples, 4, 1)
    ]
    for batches in ([], nothing):
        with pytest.raises(DataError, match="no example to evaluate"):
            evaluate_batches(batches, SCHEMA, metric_fn=None)


def test_a_label_that_no_example_has_leaves_the_loss_to_the_others(examples):
    labels, known, logits = examples
    without = (labels, known | {"size": np.zeros(NUM_EXAMPLES, bool)}, logits)
    found = evaluate_batches(
        batches_of(without, 4), SCHEMA, metric_fn=None, loss_fn=losses_of()
    ).metrics
    expected = expected_metrics(*examples)
    size = 0.5 * expected["size/root_mean_squared_error"] ** 2
    assert found["loss"] == pytest.approx(expected["loss"] - size, rel=1e-5)
    assert np.isnan(found["size/mean_absolute_error"])


# --- the front door --------------------------------------------------------------------------


class ThreeTasks(EstimatorSpec):
    class_dict = LABELS

    def get_preproc_fn(self, is_training):
        return lambda image, width, height: tf.image.resize(image, [height, width]) / 255.0

    def get_model_fn(self, checkpoint_path):
        def model_fn(image_shape, params):
            inputs = keras.Input(image_shape)
            x = keras.layers.Flatten()(inputs)
            heads = {
                label.name: keras.layers.Dense(
                    label.depth or 1,
                    name=label.name,
                    kernel_regularizer=keras.regularizers.L2(0.01),
                )(x)
                for label in LABELS
            }
            return keras.Model(inputs, heads)

        return model_fn

    def metric_ops(self, labels, predictions):
        return None


class WithOwnLoss(ThreeTasks):
    def losses(self, labels, logits):
        return {
            "kind": tf.fill(tf.shape(labels["kind"]), 3.0),
            "colour": tf.cast(labels["colour"], tf.float32),
            "size": tf.abs(logits["size"] - labels["size"]),
        }


def write_three_tasks(folder, name, count, seed):
    """Records with missing labels; returns pattern, pixels [n, ...], labels and known labels."""
    random = np.random.RandomState(seed)
    pixels = random.randint(0, 256, [count, SIZE, SIZE, 3], np.uint8)
    labels = {
        "kind": random.randint(0, 3, count),
        "colour": random.randint(0, 2, count),
        "size": random.normal(size=count).astype(np.float32),
    }
    known = {n: np.arange(count) % 5 != i for i, n in enumerate(labels)}
    rows = []
    for i in range(count):
        values = {"colour": float(labels["colour"][i]) if known["colour"][i] else -1.0}
        for n in ("kind", "size"):
            values[n] = float(labels[n][i]) if known[n][i] else None
        rows.append((tf.io.encode_png(pixels[i]).numpy(), f"{i}", values))
    write_shards(str(folder), name, rows)
    return str(folder / f"{name}-*"), pixels, labels, known


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("three")
    train_pattern, *_ = write_three_tasks(folder, "train", 20, 1)
    pattern, pixels, labels, known = write_three_tasks(folder, "eval", 13, 2)
    settings = tiny_settings(
        folder / "model",
        train_pattern,
        pattern,
        train_steps=4,
        batch_size=4,
        eval_freq=2,
        label_smoothing=0.1,
        regression_loss="huber",
        huber_delta=0.5,
        export_saved_model=True,
        output_cm_folder=str(folder / "pictures"),
    )
    result = train(ThreeTasks(), settings)
    return folder, settings, (pixels, labels, known), result


def forward(folder, pixels):
    """Logits of the best checkpoint with NumPy, and its weight regularisation."""
    store = CheckpointStore(str(folder / "model" / "best"))
    tensors = store.load(store.steps()[-1]).tensors
    flat = pixels.reshape(len(pixels), -1).astype(np.float64) / 255.0
    logits, penalty = {}, 0.0
    for label in LABELS:
        kernel = tensors[f"model/{label.name}/kernel"].astype(np.float64)
        logits[label.name] = flat @ kernel + tensors[f"model/{label.name}/bias"]
        penalty += 0.01 * (kernel**2).sum()
    logits["size"] = logits["size"][:, 0]
    return logits, penalty


@pytest.mark.slow
def test_several_labels_with_weights_and_missing_values_train_and_evaluate(world):
    folder, _, (pixels, labels, known), result = world
    assert result.step == 4
    (line,) = [json.loads(x) for x in (folder / "model" / "metrics.jsonl").read_text().splitlines()]
    assert line["num_examples"] == 8  # eval_freq 2 batches of 4
    logits, penalty = forward(folder, pixels)
    some = ({n: v[:8] for n, v in part.items()} for part in (labels, known, logits))
    expected = expected_metrics(*some, smoothing=0.1, delta=0.5)
    expected["loss"] += penalty
    assert_metrics(line, expected, rel=1e-4)
    assert_metrics(result.metrics, expected, rel=1e-4)


@pytest.mark.slow_after(1)
@pytest.mark.parametrize("batch_size", [1, 6, 16])
def test_evaluate_uses_the_whole_set_whatever_the_batch_size(world, batch_size, capsys):
    folder, settings, (pixels, labels, known), _ = world
    result = train(ThreeTasks(), settings.replace(evaluate=True, batch_size=batch_size))
    assert "evaluation of step 4 on 13 examples" in capsys.readouterr().out
    logits, penalty = forward(folder, pixels)
    expected = expected_metrics(labels, known, logits, smoothing=0.1, delta=0.5)
    expected["loss"] += penalty
    assert_metrics(result.metrics, expected, rel=1e-4)


def test_default_metrics_are_those_of_the_kinds_of_labels(world):
    assert set(world[3].metrics) == {
        "loss",
        *(f"{n}/{m}" for n in ("kind", "colour") for m in ("accuracy", "macro_f1", "log_loss")),
        "size/mean_absolute_error",
        "size/root_mean_squared_error",
    }


@pytest.mark.slow
def test_the_settings_of_the_run_hold_when_only_the_folder_is_named(world):
    _folder, settings, *_ = world
    bare = make_settings(
        {
            "model_dir": settings.run.model_dir,
            "eval_metadata": settings.data.eval_metadata,
            "cache_dir": settings.data.cache_dir,
        }
    )
    full = evaluate(ThreeTasks(), settings).metrics
    assert evaluate(ThreeTasks(), bare).metrics == pytest.approx(full, rel=1e-5)


@pytest.mark.exhaustive
def test_a_run_that_streamed_is_evaluated_with_its_own_command_line(world):
    _, settings, *_ = world
    streamed = settings.replace(input_mode="streaming", stream_block=8, evaluate=True)
    assert train(ThreeTasks(), streamed).metrics == pytest.approx(
        evaluate(ThreeTasks(), settings).metrics, rel=1e-5
    )


def test_the_command_evaluates_with_and_without_the_spec_alike(world, tmp_path, capsys):
    _folder, settings, *_ = world
    line = [
        "evaluate",
        *("--model_dir", settings.run.model_dir, "--cache_dir", settings.data.cache_dir),
        *("--eval_metadata", *settings.data.eval_metadata),
        *("--output_cm_folder", str(tmp_path / "pictures")),
    ]
    tables = []
    try:
        for spec in ([], ["--spec", f"{__file__}:ThreeTasks"]):
            assert main.main([*line, *spec]) == 0
            tables.append(capsys.readouterr().out.splitlines())
    finally:
        FLAGS.unparse_flags()
        for name in ("model_dir", "cache_dir", "eval_metadata", "output_cm_folder"):
            FLAGS[name].unparse()
        FLAGS.mark_as_parsed()
    without, with_spec = tables
    assert without[0] == with_spec[0] == "evaluation of step 4 on 13 examples"
    assert without[1:] == with_spec[2:]
    assert "loss" in with_spec[1] and not any("loss " in x and "log" not in x for x in without)
    assert sorted(p.name for p in (tmp_path / "pictures").iterdir()) == [
        "confusion_matrix_colour.png",
        "confusion_matrix_kind.png",
    ]


def test_a_confusion_matrix_of_each_class_label_is_drawn_while_training(world):
    folder, *_ = world
    for name in ("kind", "colour"):
        png = (folder / "pictures" / f"confusion_matrix_{name}.png").read_bytes()
        assert tf.io.decode_png(png).shape.rank == 3


def test_a_specs_own_losses_take_the_place_of_the_default(world):
    folder, settings, (pixels, labels, known), _ = world
    result = evaluate(WithOwnLoss(), settings)
    logits, penalty = forward(folder, pixels)
    error = abs(logits["size"] - labels["size"])[known["size"]].mean()
    expected = 2 * 3.0 + labels["colour"][known["colour"]].mean() + 0.5 * error + penalty
    assert result.metrics["loss"] == pytest.approx(expected, rel=1e-4)


@pytest.mark.slow
def test_the_vocabulary_of_the_folder_holds_and_an_unknown_class_names_file_and_line(tmp_path):
    class Pets(ThreeTasks):
        class_dict = (Label("kind", depth=3),)

        def get_model_fn(self, checkpoint_path):
            def model_fn(image_shape, params):
                inputs = keras.Input(image_shape)
                x = keras.layers.Flatten()(inputs)
                return keras.Model(inputs, keras.layers.Dense(3, name="logits")(x))

            return model_fn

    png = tf.io.encode_png(np.zeros([SIZE, SIZE, 3], np.uint8)).numpy()
    (tmp_path / "a.png").write_bytes(png)
    tables = {
        "train": ["dog", "cat", "emu"],
        "turned": ["emu", "emu"],  # numbered by itself this file would call emu class 0
        "unknown": ["cat", "cta"],
    }
    for name, words in tables.items():
        rows = "\n".join(f"a.png,{word}" for word in words)
        (tmp_path / f"{name}.csv").write_text(f"URIs,labels\n{rows}\n")
    settings = tiny_settings(
        tmp_path / "model", str(tmp_path / "train.csv"), train_steps=1, batch_size=2
    )
    train(Pets(), settings)
    (label,) = json.loads((tmp_path / "model" / "labels.json").read_text())
    assert label["class_names"] == ["cat", "dog", "emu"]
    store = CheckpointStore(str(tmp_path / "model" / "checkpoints"))
    bias = store.load(store.steps()[-1]).tensors["model/logits/bias"]  # the image is black
    result = evaluate(Pets(), settings.replace(eval_metadata=[str(tmp_path / "turned.csv")]))
    assert result.metrics["log_loss"] == pytest.approx(-np.log(softmax(bias[None])[0, 2]), rel=1e-5)
    with pytest.raises(LabelError, match=r"unknown\.csv line 3.*'cta'.*Did you mean cat"):
        evaluate(Pets(), settings.replace(eval_metadata=[str(tmp_path / "unknown.csv")]))


@pytest.mark.slow
def test_without_data_an_evaluation_takes_those_of_the_training(world):
    _, settings, *_ = world
    bare = make_settings({"model_dir": settings.run.model_dir})
    found, expected = (evaluate(ThreeTasks(), given).metrics for given in (bare, settings))
    assert found == pytest.approx(expected)


def test_an_evaluation_needs_data(world, tmp_path):
    _, settings, *_ = world
    changes = {"model_dir": str(tmp_path), "train_steps": 1, "export_saved_model": False}
    of_evaluation = ("eval_metadata", "eval_freq", "output_cm_folder")
    given = {n: v for n, v in settings.values().items() if settings.origin(n) != "default"}
    without = {n: v for n, v in given.items() if n not in of_evaluation}
    train(ThreeTasks(), make_settings(without | changes))
    with pytest.raises(ConfigError, match="Give eval_metadata"):
        evaluate(ThreeTasks(), make_settings({"model_dir": str(tmp_path)}))
