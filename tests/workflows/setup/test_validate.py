"""Whatever would stop a run, or leave a setting without effect, is found before it begins."""

import json

import keras
import pytest
import tensorflow as tf

from keras_models import CaseSpec
from tf_image_classification import metrics
from tf_image_classification.errors import ConfigError
from tiny_runs import TinySpec, evaluations, plain_spec, run, write_records


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return write_records(tmp_path_factory.mktemp("records"))


class OwnLoss(TinySpec):
    def losses(self, labels, logits):
        return {"kind": logits["kind"][:, 0] ** 2}


class OnlyValues(TinySpec):
    """One real-valued label."""

    def __init__(self):
        super().__init__(noise=0.0, weights=(1.0, 1.0))
        self.class_dict = self.class_dict[1:]

    def get_model_fn(self, checkpoint_path):
        build = super().get_model_fn(checkpoint_path)

        def model_fn(image_shape, params):
            self.class_dict = [None, *self.class_dict]  # the tiny model has both heads
            try:
                model = build(image_shape, params)
            finally:
                self.class_dict = self.class_dict[1:]
            import keras

            return keras.Model(model.input, {"size": model.output["size"]})

        return model_fn


@pytest.mark.parametrize(
    ("spec", "changes", "expected"),
    [
        (plain_spec(), {"regression_loss": "huber"}, "no regression label"),
        (OwnLoss(), {"label_smoothing": 0.1}, "the spec has its own losses"),
        (plain_spec(), {"best_metric": "acuracy"}, "Did you mean accuracy"),
        (plain_spec(), {"best_metric": "top_5_accuracy"}, "no metric 'top_5_accuracy'"),
    ],
    ids=["huber", "smoothing", "metric", "top 5 of 3"],
)
def test_a_setting_without_effect_is_refused_before_anything_is_written(
    records, tmp_path, spec, changes, expected
):
    with pytest.raises(ConfigError, match=expected):
        run(spec, tmp_path / "m", records, records, train_steps=1, **changes)
    assert not (tmp_path / "m").exists()


class WithAreas(TinySpec):
    """The metrics that a person would write, one of them for two classes."""

    def metric_ops(self, labels, predictions):
        truth, probabilities = labels["kind"], predictions["kind_probabilities"]
        return {
            "accuracy": metrics.accuracy(truth, predictions["kind"]),
            "roc_auc": metrics.auc(truth == 1, probabilities[:, 1]),
            "keras_auc": metrics.bind(keras.metrics.AUC(), truth == 1, probabilities[:, 1]),
        }


def one_class_only(tmp_path, *, kind=1, count=12):
    return write_records(tmp_path, "ones", count=count, labels=lambda i, _: {"kind": float(kind)})


@pytest.mark.parametrize("spec", [WithAreas, plain_spec], ids=["the spec's own", "of the table"])
def test_a_metric_that_the_evaluation_set_cannot_give_is_refused_as_the_best_one(
    records, tmp_path, spec
):
    name = "roc_auc" if spec is WithAreas else "macro_auc"
    evaluation = one_class_only(tmp_path)
    with pytest.raises(ConfigError, match=rf"best_metric: {name} cannot .* \(label kind: 1 only\)"):
        run(spec(), tmp_path / "m", records, evaluation, train_steps=1, best_metric=name,
            early_stopping_patience=1)  # fmt: skip
    assert not (tmp_path / "m").exists()


@pytest.mark.slow
def test_other_metrics_that_it_cannot_give_are_told_before_the_first_step(
    records, tmp_path, capsys
):
    options = {"train_steps": 4, "eval_every_steps": 1, "early_stopping_patience": 9}
    found = run(WithAreas(), tmp_path / "m", records, one_class_only(tmp_path), **options)
    assert found.step == 4
    printed = capsys.readouterr().out
    assert printed.index("roc_auc cannot be worked out on the 12 evaluation") < printed.index(
        "train:"
    )
    assert "accuracy cannot" not in printed
    run(WithAreas(), tmp_path / "n", records, records, train_steps=1)
    assert "cannot be worked out" not in capsys.readouterr().out


@pytest.mark.slow
def test_any_metric_of_the_table_can_choose_the_checkpoint(records, tmp_path):
    options = {"train_steps": 2, "eval_every_steps": 1, "best_metric": "balanced_accuracy"}
    run(plain_spec(), tmp_path / "m", records, records, **options)
    assert all("balanced_accuracy" in line for line in evaluations(tmp_path / "m"))
    run(WithAreas(), tmp_path / "n", records, records, **options)
    assert set(evaluations(tmp_path / "n")[-1]) > {"roc_auc", "balanced_accuracy"}
    with pytest.raises(ConfigError, match="no metric 'within_1'"):
        run(plain_spec(), tmp_path / "o", records, records, **options | {"best_metric": "within_1"})


@pytest.mark.slow
def test_a_part_of_the_evaluation_set_that_lacks_classes_is_told(tmp_path, records, capsys):
    in_order = write_records(tmp_path, "sorted", labels=lambda i, _: {"kind": float(i // 14)})
    run(plain_spec(), tmp_path / "m", records, in_order, train_steps=1, eval_freq=2)
    told = (
        "eval_freq 2 evaluates the first 12 of 40 examples, where label kind has no example of 2."
    )
    assert told in capsys.readouterr().out


def test_settings_of_classes_are_refused_without_classes(tmp_path):
    values = write_records(tmp_path, labels=lambda i, kind: {"size": float(i)})
    with pytest.raises(ConfigError, match="label_smoothing .* can be smoothed"):
        run(OnlyValues(), tmp_path / "m", values, train_steps=1, label_smoothing=0.1)
    assert run(OnlyValues(), tmp_path / "m", values, train_steps=1).step == 1


@pytest.mark.slow
def test_features_of_records_are_refused_where_no_records_are_read(records, tmp_path):
    image = tf.io.encode_png(tf.zeros([8, 8, 3], tf.uint8)).numpy()
    (tmp_path / "a.png").write_bytes(image)
    table = tmp_path / "t.csv"
    table.write_text("URIs,labels\na.png,x\na.png,y\na.png,z\n")
    with pytest.raises(ConfigError, match="image_feature .* no TFRecord files are read"):
        run(plain_spec(), tmp_path / "m", str(table), train_steps=1, image_feature="image")
    mixed = {"image_feature": "image_bytes", "train_steps": 1, "labels": (str(tmp_path / "l"),)}
    (tmp_path / "l").write_text("0\n1\n2\n")
    table.write_text("URIs,labels\na.png,0\na.png,1\na.png,2\n")
    run(plain_spec(), tmp_path / "m", records, str(table), **mixed)


def test_a_label_may_have_another_name_in_a_table(tmp_path):
    (tmp_path / "a.png").write_bytes(tf.io.encode_png(tf.zeros([8, 8, 3], tf.uint8)).numpy())
    table = tmp_path / "t.csv"
    table.write_text("URIs,coat,species\na.png,0,2\na.png,0,1\na.png,0,0\n")
    run(plain_spec(), tmp_path / "m", str(table), label_features=("kind=species",), train_steps=1)
    counts = json.loads((tmp_path / "m" / "data.json").read_text())
    assert counts["train"]["classes"] == {"kind": {"0": 1, "1": 1, "2": 1}}


@pytest.mark.parametrize(
    "options", [{"test_time_augmentation": "flip"}, {"cutmix_alpha": 1.0}], ids=str
)
def test_what_changes_height_and_width_is_refused_where_the_channels_come_first(
    records, tmp_path, options
):
    with pytest.raises(
        ConfigError, match=r"needs images \[height, width, channels\].*\[3, 16, 16\]"
    ):
        spec = CaseSpec("channels first")
        run(spec, tmp_path, records, records, image_size=16, train_steps=1, **options)
