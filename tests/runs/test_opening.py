"""Whatever would stop a run, or leave a setting without effect, is found before it begins."""

import pytest

from keras_models import CaseSpec
from tf_image_classification.errors import ConfigError
from tiny_runs import TinySpec, plain_spec, run, write_records


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
        (plain_spec(), {"regression_loss": "huber"}, "no real-valued label"),
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


def test_settings_of_classes_are_refused_without_classes(tmp_path):
    values = write_records(tmp_path, labels=lambda i, kind: {"size": float(i)})
    with pytest.raises(ConfigError, match="label_smoothing .* can be smoothed"):
        run(OnlyValues(), tmp_path / "m", values, train_steps=1, label_smoothing=0.1)
    assert run(OnlyValues(), tmp_path / "m", values, train_steps=1).step == 1


def test_features_of_records_are_refused_where_no_records_are_read(records, tmp_path):
    import tensorflow as tf

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


@pytest.mark.parametrize(
    "options", [{"test_time_augmentation": "flip"}, {"cutmix_alpha": 1.0}], ids=str
)
def test_what_changes_height_and_width_is_refused_where_the_channels_come_first(
    records, tmp_path, options
):
    with pytest.raises(
        ConfigError, match=r"needs images \[height, width, channels\].*\[3, 16, 16\]"
    ):
        run(CaseSpec("channels first"), tmp_path, records, image_size=16, train_steps=1, **options)
