"""Batches from a tf.data service: a dispatcher and two workers on loopback."""

import collections
import os

import pytest
import tensorflow as tf

import tiny_runs
from tf_image_classification import train_estimator
from tf_image_classification.config import make_settings
from tf_image_classification.dataset.pipeline.distribute import DistributedBatches
from tf_image_classification.errors import ConfigError, DataError
from tf_image_classification.workflows.setup import run_data
from tf_image_classification.workflows.setup.context import make_context

BATCH, COUNT = 6, 40


@pytest.fixture(scope="module")
def service():
    made = tf.data.experimental.service
    dispatcher = made.DispatchServer(made.DispatcherConfig(port=0))
    address = dispatcher.target.partition("://")[2]
    workers = [made.WorkerServer(made.WorkerConfig(dispatcher_address=address)) for _ in range(2)]
    yield dispatcher.target
    for worker in workers:
        worker._stop()
    dispatcher._stop()


@pytest.fixture(autouse=True)
def no_autotuning(monkeypatch):
    """A worker that stops waits up to a minute for the thread that tunes its pipelines."""
    services = tf.data.experimental.service
    distribute, options = services.distribute, tf.data.Options()
    options.autotune.enabled = False

    def untuned(*arguments):
        distributed = distribute(*arguments)
        return lambda dataset: distributed(dataset.with_options(options))

    monkeypatch.setattr(services, "distribute", untuned)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A CSV of image files."""
    folder = tmp_path_factory.mktemp("images")
    lines = []
    for number in range(COUNT):
        image = tf.fill([8, 8, 3], tf.constant(5 * number, tf.uint8))
        tf.io.write_file(str(folder / f"{number}.png"), tf.io.encode_png(image))
        lines.append(f"{number}.png,{number % 3}\n")
    (folder / "train.csv").write_text("".join(lines))
    return str(folder / "train.csv")


def settings(source, service, tmp_path, **changes):
    return make_settings(
        {
            "train_metadata": (source,), "model_dir": str(tmp_path / "model"), "image_size": 8,
            "batch_size": BATCH, "data_service": service, "deterministic": False,
            "train_steps": 3, "progress": False, "export_saved_model": False,
            "cache_dir": str(tmp_path / "cache"), **changes,
        }
    )  # fmt: skip


def batches_of(settings):
    data = run_data.read_data(make_context(tiny_runs.plain_spec(), settings))
    strategy = tf.distribute.OneDeviceStrategy("CPU:0")
    return DistributedBatches(data.train, strategy, is_training=True, skip_bad_images=False).start(
        0
    )


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["csv", "streaming"])
def test_two_machines_make_every_batch_once(service, images, tmp_path, mode):
    if mode == "streaming":
        source = tiny_runs.write_records(tmp_path, count=COUNT)
        made = settings(source, service, tmp_path, input_mode="streaming")
    else:
        made = settings(images, service, tmp_path)
    num_epochs, seen = 6, collections.Counter()
    batches = batches_of(made)
    for _ in range(num_epochs * COUNT // BATCH):
        batch = next(batches)
        assert batch.images.shape == [BATCH, 8, 8, 3]
        seen.update(batch.ids.numpy().tolist())
    assert set(seen) == set(range(COUNT))
    # Batches overtake one another, so each example has been seen about as often as another.
    assert max(seen.values()) <= num_epochs + 2
    assert min(seen.values()) >= num_epochs - 2


@pytest.mark.slow
def test_a_training_reads_from_the_service(service, images, tmp_path):
    result = train_estimator.train(tiny_runs.TinySpec(), settings(images, service, tmp_path))
    assert result.step == 3


@pytest.mark.slow
def test_a_bad_image_is_said_to_be_somewhere(service, images, tmp_path):
    folder = os.path.dirname(images)
    (tmp_path / "bad.png").write_bytes(b"no image")
    lines = f"{tmp_path}/bad.png,0\n" + "".join(f"{folder}/{n}.png,{n}\n" for n in (1, 2))
    (tmp_path / "bad.csv").write_text(lines)
    with pytest.raises(DataError, match="train without data_service, which names the file"):
        train_estimator.train(
            tiny_runs.TinySpec(), settings(str(tmp_path / "bad.csv"), service, tmp_path)
        )


def test_records_need_the_streaming_mode(service, tmp_path):
    source = tiny_runs.write_records(tmp_path)
    with pytest.raises(ConfigError, match="input_mode='streaming'"):
        train_estimator.train(tiny_runs.TinySpec(), settings(source, service, tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"deterministic": True}, "Add --nodeterministic to accept that"),
        ({"on_bad_image": "skip"}, "needs the index of the bad example"),
        ({"data_service": "host:1"}, "expected grpc://host:port"),
    ],
)
def test_the_exact_mode_refuses_the_service(changes, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        settings("x.csv", "grpc://localhost:1", tmp_path, **changes)
