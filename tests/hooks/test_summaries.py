"""The TensorBoard logs, read back with TensorBoard's own reader."""

import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from hooks.fake_run import FakeEvaluation, FakeRun, go_on, walk
from tf_image_classification.batches import PADDING_ID, Batch
from tf_image_classification.hooks import Every, SummaryHook
from tf_image_classification.hooks.summaries import to_displayable


def read_events(folder):
    events = EventAccumulator(str(folder), size_guidance={"tensors": 0})
    events.Reload()
    return {
        tag: {e.step: tf.make_ndarray(e.tensor_proto) for e in events.Tensors(tag)}
        for tag in events.Tags()["tensors"]
    }


class RunWithImages(FakeRun):
    channels = 3

    def sample_batch(self):
        images = tf.random.stateless_uniform([4, 5, 6, self.channels], [0, 1])
        known = {"kind": tf.ones([4], tf.bool)}
        ids = tf.constant([3, PADDING_ID, 7, 9], tf.int64)
        return Batch(images, {"kind": tf.zeros([4], tf.int64)}, known, ids)


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    hook, run = SummaryHook(Every(steps=3)), RunWithImages(folder)
    walk(hook, run, to=4)
    matrix = np.array([[3, 1], [0, 2]])
    hook.after_evaluation(
        run, FakeEvaluation({"kind": matrix}, accuracy=0.75, per_class=np.array([1.0, 2.0]))
    )
    go_on(hook, run, to=7)
    hook.end(run)
    hook.close()
    return folder / "tensorboard"


def test_the_training_curves_have_a_point_where_due(logs):
    curves = read_events(logs / "train")
    expected = {"loss", "learning_rate", "gradient_norm", "images_per_second", "input_wait_share"}
    assert set(curves) == expected | {"training_images"}
    for name in expected:
        assert sorted(curves[name]) == [3, 6, 7], name  # when due, and at the end
    assert {s: float(v) for s, v in curves["loss"].items()} == {3: 103.0, 6: 106.0, 7: 107.0}
    assert float(curves["learning_rate"][3]) == 0.25
    assert float(curves["gradient_norm"][3]) == 0.5
    assert float(curves["input_wait_share"][6]) == 0.25
    assert float(curves["images_per_second"][6]) > 0


def test_the_first_training_images_are_there_once_without_padding(logs):
    pictures = read_events(logs / "train")["training_images"]
    assert list(pictures) == [3]
    width, height, *encoded = pictures[3]
    assert (width, height, len(encoded)) == (b"6", b"5", 3)
    assert tf.io.decode_png(encoded[0]).shape == [5, 6, 3]


def test_evaluations_have_their_metrics_and_a_picture_of_the_confusion_matrix(logs):
    curves = read_events(logs / "eval")
    assert set(curves) == {"accuracy", "confusion_matrix/kind"}
    assert {s: float(v) for s, v in curves["accuracy"].items()} == {4: 0.75}
    (picture,) = curves["confusion_matrix/kind"].values()
    assert tf.io.decode_png(picture[2]).shape[2] == 3


@pytest.mark.parametrize(("channels", "is_shown"), [(1, True), (2, False), (4, True), (5, False)])
def test_images_are_shown_where_they_have_a_picture(tmp_path, channels, is_shown):
    hook, run = SummaryHook(Every(steps=1)), RunWithImages(tmp_path)
    run.channels = channels
    walk(hook, run, to=1)
    hook.close()
    events = read_events(tmp_path / "tensorboard" / "train")
    assert ("training_images" in events) == is_shown


def test_images_of_any_range_become_displayable():
    images = np.stack([np.full([2, 2, 3], 7.0), np.arange(12.0).reshape(2, 2, 3) - 20])
    shown = to_displayable(images)
    assert shown.dtype == np.float32
    assert shown[0].max() == 0 and shown[1].min() == 0 and shown[1].max() == 1
    as_bytes = np.zeros([1, 2, 2, 3], np.uint8)
    assert to_displayable(as_bytes) is as_bytes
