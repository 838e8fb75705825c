"""Labels of every kind in one model: from CSV and records to metrics, checkpoints and export."""

import os

import keras
import numpy as np
import pytest
import tensorflow as tf

import tiny_runs
from tf_image_classification import EstimatorSpec, train_estimator
from tf_image_classification.errors import ConfigError, LabelError
from tf_image_classification.hooks import UnfreezeHook
from tf_image_classification.labels import Label
from tf_image_classification.model_folder import ModelFolder

SIZE, COUNT = 8, 36
TAGS = ("bright", "striped", "tall")


class MixedSpec(EstimatorSpec):
    """A class, two ordinal labels, several tags and a real value, some of them missing."""

    def __init__(self, coding="thresholds"):
        self.class_dict = [
            Label("side", depth=2, class_names=("left", "right")),
            Label("size", depth=4, kind="ordinal", coding=coding),
            Label("tags", depth=3, kind="several"),
            Label("weight", kind="value", weight=0.001),
        ]

    def get_preproc_fn(self, is_training):
        def preproc(image, width, height):
            return tf.image.resize(image, [height, width]) / 127.5 - 1.0

        return preproc

    def get_model_fn(self, checkpoint_path):
        def model_fn(image_shape, params):
            inputs = keras.Input(image_shape)
            x = keras.layers.Dense(12, activation="tanh", name="body")(
                keras.layers.Flatten()(inputs)
            )
            outputs = {
                label.name: keras.layers.Dense((*label.logits_shape, 1)[0], name=label.name)(x)
                for label in self.class_dict
            }
            return keras.Model(inputs, outputs)

        return model_fn

    def metric_ops(self, labels, predictions):
        return None


def examples():
    """Images whose brightness, stripes and side say their labels."""
    random = np.random.RandomState(1)
    for number in range(COUNT):
        size, right, striped = number % 4, number // 4 % 2, number % 3 == 0
        image = random.randint(0, 20, [SIZE, SIZE, 3])
        image[:, 4 * right : 4 * right + 4] += 60 * size + 20
        if striped:
            image[::2, :, 2] += 100
        tags = [size > 1, striped, size == 3]
        labels = {"side": right, "size": size, "tags": tags, "weight": 10.0 * size + right}
        if number % 9 == 5:
            labels["tags"] = None
        if number % 9 == 7:
            labels["size"] = None
        yield np.clip(image, 0, 255).astype(np.uint8), labels


@pytest.fixture(scope="module")
def csv(tmp_path_factory):
    folder = tmp_path_factory.mktemp("csv")
    lines = ["URIs,side,size,tags,weight"]
    for number, (image, labels) in enumerate(examples()):
        (folder / f"{number}.png").write_bytes(tf.io.encode_png(image).numpy())
        tags = labels["tags"]
        text = ""
        if tags is not None:
            text = "|".join(name for name, has in zip(TAGS, tags, strict=True) if has) or "|"
        size = "" if labels["size"] is None else labels["size"]
        side = ("left", "right")[labels["side"]]
        lines.append(f"{number}.png,{side},{size},{text},{labels['weight']}")
    (folder / "all.csv").write_text("\n".join(lines))
    return str(folder / "all.csv")


def write_records(path, *, tags_as_text):
    def feature(name, value):
        if name == "tags" and tags_as_text:
            names = [n for n, has in zip(TAGS, value, strict=True) if has] or [""]
            return tf.train.Feature(
                bytes_list=tf.train.BytesList(value=[n.encode() for n in names])
            )
        return tf.train.Feature(
            float_list=tf.train.FloatList(value=np.atleast_1d(value).astype(float))
        )

    with tf.io.TFRecordWriter(path) as writer:
        for image, labels in examples():
            features = {n: feature(n, v) for n, v in labels.items() if v is not None}
            data = tf.io.encode_png(image).numpy()
            features["image_bytes"] = tf.train.Feature(bytes_list=tf.train.BytesList(value=[data]))
            example = tf.train.Example(features=tf.train.Features(feature=features))
            writer.write(example.SerializeToString())
    return path


def train(spec, model_dir, source, **changes):
    return tiny_runs.run(spec, model_dir, source, source, **{"train_steps": 4} | changes)


@pytest.mark.exhaustive
def test_records_and_a_csv_of_the_same_labels_train_to_the_same_bits(csv, tmp_path):
    from_csv = train(MixedSpec(), tmp_path / "csv", csv)
    for tags_as_text in (False, True):
        path = write_records(str(tmp_path / f"{tags_as_text}.tfrecord"), tags_as_text=tags_as_text)
        labels = tmp_path / "tags.txt"
        labels.write_text("\n".join(TAGS))
        found = train(
            MixedSpec(), tmp_path / f"records-{tags_as_text}", path, labels=(f"tags={labels}",)
        )
        tiny_runs.assert_same_bits(found, from_csv)
        streamed = train(
            MixedSpec(), tmp_path / f"stream-{tags_as_text}", path, input_mode="streaming",
            labels=(f"tags={labels}",), debug=True,
        )  # fmt: skip
        assert np.isfinite(streamed.tensors["model/tags/kernel"]).all()


@pytest.mark.slow
@pytest.mark.parametrize("coding", ["thresholds", "expectation", "distribution"])
def test_every_kind_is_learned_and_measured(csv, tmp_path, coding):
    train(
        MixedSpec(coding), tmp_path, csv, train_steps=160, learning_rate=0.02, batch_size=18,
        best_metric="size/mean_absolute_error", export_saved_model=True, eval_every_steps=80,
    )  # fmt: skip
    metrics = tiny_runs.evaluations(tmp_path)[-1]
    assert metrics["side/accuracy"] > 0.9
    assert metrics["size/mean_absolute_error"] < 0.35 and metrics["size/within_1"] > 0.95
    assert metrics["tags/mean_average_precision"] > 0.8 and metrics["tags/exact_match"] > 0.4
    served = tf.saved_model.load(ModelFolder(str(tmp_path)).saved_model)
    images = [tf.io.encode_png(image).numpy() for image, _ in examples()][:8]
    predictions = served.serve(tf.constant(images))
    np.testing.assert_allclose(
        tf.reduce_sum(predictions["size_probabilities"], axis=1), 1.0, rtol=1e-5
    )
    wanted = predictions["size_probabilities"].numpy() @ np.arange(4)
    np.testing.assert_allclose(predictions["size_expected"], wanted, rtol=1e-5)
    names = predictions["tags_class_names"].numpy()
    for name, has in zip(names, predictions["tags"].numpy(), strict=True):
        assert name.decode() == "|".join(np.array(TAGS)[has])
    settings = tiny_runs.tiny_settings(tmp_path, csv, csv, evaluate=True)
    again = train_estimator.evaluate(MixedSpec(coding), settings)
    assert again.metrics["loss"] == pytest.approx(
        min(tiny_runs.evaluations(tmp_path), key=lambda m: m["size/mean_absolute_error"])["loss"]
    )


LEARNED = {"task_weights": "learned", "learning_rate_decay_type": "fixed"}


@pytest.mark.slow
def test_learned_task_weights_follow_the_losses_and_resume_to_the_same_bits(csv, tmp_path):
    straight = train(MixedSpec(), tmp_path / "a", csv, train_steps=40, **LEARNED)
    train(MixedSpec(), tmp_path / "b", csv, train_steps=17, **LEARNED)
    parts = train(MixedSpec(), tmp_path / "b", csv, train_steps=40, **LEARNED)
    tiny_runs.assert_same_bits(parts, straight)
    learned = {
        name: float(straight.tensors[f"log_variance/{name}"])
        for name in ("side", "size", "tags", "weight")
    }
    # Squared errors of tens are far larger than cross-entropies.
    assert learned["weight"] == max(learned.values()) > 0.3
    on_two = train(MixedSpec(), tmp_path / "c", csv, strategy="mirrored", **LEARNED)
    on_one = train(MixedSpec(), tmp_path / "d", csv, **LEARNED)
    assert tiny_runs.largest_difference(on_two, on_one, beginning="") < 2e-4


def test_learned_task_weights_need_several_labels(tmp_path):
    records = tiny_runs.write_records(tmp_path)
    with pytest.raises(ConfigError, match="one label"):
        tiny_runs.run(tiny_runs.plain_spec(), tmp_path / "model", records, train_steps=1,
                      task_weights="learned")  # fmt: skip


@pytest.mark.slow
def test_balanced_sampling_reaches_the_training_and_resumes(csv, tmp_path):
    fixed = {"balanced_sampling": "side", "learning_rate_decay_type": "fixed"}
    plain = train(MixedSpec(), tmp_path / "plain", csv, learning_rate_decay_type="fixed")
    straight = train(MixedSpec(), tmp_path / "a", csv, **fixed)
    assert tiny_runs.largest_difference(plain, straight) > 1e-4
    train(MixedSpec(), tmp_path / "b", csv, **fixed | {"train_steps": 3})
    parts = train(MixedSpec(), tmp_path / "b", csv, **fixed)
    tiny_runs.assert_same_bits(parts, straight)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"balanced_sampling": "tags"}, "is no class label"),
        ({"balanced_sampling": "sides"}, "side"),
        ({"balanced_sampling": "side", "class_weights": "balanced"}, "class imbalance twice"),
    ],
)
def test_balanced_sampling_of_what_has_no_classes_is_refused(csv, tmp_path, changes, message):
    with pytest.raises(ConfigError, match=message):
        train(MixedSpec(), tmp_path, csv, **changes)


@pytest.fixture(scope="module")
def plainly_served(csv, tmp_path_factory):
    folder = tmp_path_factory.mktemp("plain")
    train(MixedSpec(), folder, csv, train_steps=10, export_saved_model=True)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    "augmentation", [pytest.param("flip", marks=pytest.mark.exhaustive), "flip_shift"]
)
def test_test_time_augmentation_averages_views_in_evaluation_and_export(
    csv, plainly_served, tmp_path, augmentation
):
    train(
        MixedSpec(), tmp_path, csv, train_steps=10, test_time_augmentation=augmentation,
        export_saved_model=True,
    )  # fmt: skip
    image = next(examples())[0].astype(np.float32)
    padded = np.pad(image, [(1, 1), (1, 1), (0, 0)], mode="symmetric")
    shown = {"flip": [image], "flip_shift": [image, padded[:SIZE, :SIZE], padded[2:, 2:]]}
    shown = [view for one in shown[augmentation] for view in (one, one[:, ::-1])]

    def served(folder, images):
        model = tf.saved_model.load(ModelFolder(str(folder)).saved_model)
        data = [tf.io.encode_png(x.astype(np.uint8)).numpy() for x in images]
        return model.serve(tf.constant(data))["side_logits"].numpy()

    found = served(tmp_path, [image])[0]
    np.testing.assert_allclose(found, served(plainly_served, shown).mean(axis=0), atol=1e-5)
    losses = [tiny_runs.evaluations(f)[-1]["loss"] for f in (tmp_path, plainly_served)]
    assert losses[0] != losses[1]


@pytest.mark.slow
def test_an_unfreeze_hook_holds_layers_until_its_step(csv, tmp_path):
    ends = {
        steps: train(
            MixedSpec(), tmp_path / str(steps), csv, train_steps=steps, steps_per_call=2,
            learning_rate_decay_type="fixed", hooks=[UnfreezeHook(["body/"], at_step=3)],
        ).tensors
        for steps in (1, 3, 5)
    }  # fmt: skip
    bodies = {steps: tensors["model/body/kernel"] for steps, tensors in ends.items()}
    assert (bodies[1] == bodies[3]).all() and (bodies[3] != bodies[5]).any()
    assert (ends[1]["model/side/kernel"] != ends[3]["model/side/kernel"]).any()
    with pytest.raises(ConfigError, match="bdy"):
        train(MixedSpec(), tmp_path / "x", csv, hooks=[UnfreezeHook(["bdy"], at_step=3)])


def test_wrong_labels_of_each_kind_are_named(csv, tmp_path):
    with open(csv) as stream:
        text = stream.read()
    folder = os.path.dirname(csv)
    for old, new, message in (
        ("0.png,left,0,striped", "0.png,left,7,striped", "names 5 classes: 0, 1, 2, 3, 7"),
        ("0.png,left,0,striped", "0.png,left,0,stripped", "names 4 classes"),
    ):
        assert old in text
        path = os.path.join(folder, "wrong.csv")
        with open(path, "w") as stream:
            stream.write(text.replace(old, new, 1))
        with pytest.raises(LabelError, match=message):
            train(MixedSpec(), tmp_path / "model", path)


def test_a_record_with_the_wrong_number_of_values_is_named(tmp_path):
    path = write_records(str(tmp_path / "a.tfrecord"), tags_as_text=False)
    spec = MixedSpec()
    spec.class_dict = [*spec.class_dict[:2], Label("tags", depth=5, kind="several")]
    with pytest.raises(LabelError, match=r"record 0: label 'tags' has 3 values, expected 5"):
        train(spec, tmp_path / "model", path)


def test_the_order_of_an_ordinal_label_must_be_known(tmp_path):
    image = tf.io.encode_png(tf.zeros([4, 4, 3], tf.uint8)).numpy()
    (tmp_path / "a.png").write_bytes(image)
    lines = ["URIs,size", *(f"a.png,{size}" for size in ("low", "middle", "high"))]
    (tmp_path / "a.csv").write_text("\n".join(lines))
    spec = MixedSpec()
    spec.class_dict = [Label("size", depth=3, kind="ordinal")]
    with pytest.raises(LabelError, match="lowest to highest"):
        train(spec, tmp_path / "model", str(tmp_path / "a.csv"))
