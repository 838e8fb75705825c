"""The exported model: encoded images in, the evaluation's predictions out, never half a model."""

import contextlib
import errno
import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from keras_models import CaseSpec
from tf_image_classification import evaluate, make_settings, train
from tf_image_classification.dataset.table import SourceOptions, read_table
from tf_image_classification.errors import DataError, ExportError
from tf_image_classification.estimator_specs import schema_of
from tf_image_classification.export import saved_model
from tf_image_classification.export.saved_model import ExportedModel, exported_step
from tf_image_classification.system import files, signals
from tf_image_classification.workflows import export_saved_model
from tf_image_classification.workflows.setup.context import make_context
from tf_image_classification.workflows.setup.model import build_model
from tiny_runs import (
    SIZE,
    TinySpec,
    last_checkpoint,
    plain_spec,
    tiny_settings,
    write_records,
)

NAMES = ("cat", "dog", "emu")


class Watched(TinySpec):
    """Keeps the predictions that an evaluation makes."""

    def __init__(self, **options):
        super().__init__(names=NAMES, **options)
        self.seen = []

    def metric_ops(self, labels, predictions):
        self.seen.append({name: value.numpy() for name, value in predictions.items()})


class OfBytes(Watched):
    """The same with images that stay whole numbers."""

    def get_preproc_fn(self, is_training):
        def preproc(image, width, height):
            return tf.cast(tf.image.resize(image, [height, width]), tf.uint8)

        return preproc


def encoded_images(pattern):
    cache_dir = os.path.join(os.path.dirname(pattern), "cache")
    options = SourceOptions(option="eval_metadata", cache_dir=cache_dir)
    table = read_table([pattern], schema_of(plain_spec()), options).table
    return table.fetch(tf.range(table.num_examples, dtype=tf.int64)).numpy().tolist()


def exported_run(folder, spec, **changes):
    records = write_records(folder, "train", count=12)
    held_out = write_records(folder, "eval", count=7, seed=1)
    settings = tiny_settings(
        folder / "model", records, held_out, train_steps=3, export_saved_model=True, **changes
    )
    train(spec, settings)
    return settings, str(folder / "model" / "saved_model"), encoded_images(held_out)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return exported_run(tmp_path_factory.mktemp("export"), Watched(), moving_average_decay=0.9)


def served(path, images):
    model = tf.saved_model.load(path)  # kept: its functions do not keep its variables
    return {n: v.numpy() for n, v in model.serve(tf.constant(images, tf.string)).items()}


def assert_predictions_of_evaluation(spec, settings, path, images):
    spec.seen.clear()
    evaluate(spec, settings)
    found = served(path, images)
    for name in ("kind", "kind_logits", "kind_probabilities"):
        expected = np.concatenate([batch[name] for batch in spec.seen])
        np.testing.assert_allclose(found[name], expected, rtol=1e-5, atol=1e-6)
    assert found["kind_class_name"].tolist() == [NAMES[i].encode() for i in found["kind"]]


@pytest.mark.slow
def test_encoded_images_give_the_predictions_of_the_evaluation(world):
    assert_predictions_of_evaluation(Watched(), *world)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spec", "changes"),
    [
        (OfBytes, {}),
        (Watched, {"strategy": "mirrored"}),
        (Watched, {"precision": "mixed_bfloat16"}),
    ],
    ids=["images of whole numbers", "two devices", "mixed precision"],
)
def test_every_kind_of_run_exports_what_it_evaluates(tmp_path, spec, changes):
    settings, path, images = exported_run(tmp_path, spec(), **changes)
    assert_predictions_of_evaluation(spec(), settings, path, images)
    with_spec, without = evaluate(spec(), settings).metrics, evaluate(None, settings).metrics
    assert without == pytest.approx({n: with_spec[n] for n in without}, rel=1e-5)
    assert set(with_spec) - set(without) == {"loss"}


@pytest.mark.slow
def test_images_of_any_form_and_size_may_share_a_batch(world):
    path = world[1]
    random = np.random.RandomState(0)

    def pixels(*shape):
        return random.randint(0, 256, shape, np.uint8)

    images = [
        tf.io.encode_png(pixels(SIZE, SIZE, 3)),
        tf.io.encode_jpeg(pixels(31, 17, 3)),
        tf.io.encode_png(pixels(5, 40, 1)),
        tf.io.encode_png(pixels(1, 1, 4)),
        tf.io.encode_jpeg(pixels(9, 9, 1)),
    ]
    images = [image.numpy() for image in images]
    together = served(path, images)
    assert together["kind_probabilities"].shape == (5, 3)
    np.testing.assert_allclose(together["kind_probabilities"].sum(axis=1), 1.0, rtol=1e-5)
    for i, image in enumerate(images):
        alone = served(path, [image])
        assert alone["kind_probabilities"].shape == (1, 3)
        np.testing.assert_allclose(
            alone["kind_logits"][0], together["kind_logits"][i], rtol=1e-5, atol=1e-6
        )


@pytest.mark.slow
def test_bytes_that_are_no_image_are_refused(world):
    with pytest.raises(tf.errors.InvalidArgumentError):
        served(world[1], [b"no image"])


@pytest.mark.slow
def test_a_process_with_nothing_but_tensorflow_can_serve(world, tmp_path):
    _, path, images = world
    (tmp_path / "image.png").write_bytes(images[0])
    program = (
        "import json, sys, tensorflow as tf\n"
        "model = tf.saved_model.load(sys.argv[1])\n"
        "serve = model.signatures['serving_default']\n"
        "found = serve(image_bytes=tf.io.read_file(sys.argv[2])[None])\n"
        "assert 'tf_image_classification' not in sys.modules\n"
        "print(json.dumps(found['kind_probabilities'].numpy().tolist()))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", program, path, str(tmp_path / "image.png")],
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    np.testing.assert_allclose(
        json.loads(result.stdout), served(path, images[:1])["kind_probabilities"], rtol=1e-5
    )


@pytest.mark.slow
def test_the_exported_model_knows_its_step(world):
    _, path, _ = world
    assert exported_step(path) == ExportedModel(path).load().step == 3


def test_a_folder_without_a_complete_model_is_refused(tmp_path):
    with pytest.raises(DataError, match="holds no exported model"):
        ExportedModel(str(tmp_path / "absent")).load()
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "saved_model.pb").write_bytes(b"")
    with pytest.raises(DataError, match="holds no exported model"):
        ExportedModel(str(tmp_path / "half")).load()


# --- whole or not at all ---------------------------------------------------------------------


@pytest.fixture
def finished(tmp_path):
    return exported_run(tmp_path, plain_spec(names=NAMES))


def go_on(settings, steps):
    train(plain_spec(names=NAMES), settings.replace(train_steps=steps))


def leftovers(path):
    folder = os.path.dirname(path)
    return [n for n in os.listdir(folder) if "saved_model" in n and n != "saved_model"]


@pytest.mark.slow
def test_a_new_export_takes_the_place_of_the_old_one(finished):
    settings, path, images = finished
    before = served(path, images)["kind_logits"]
    go_on(settings, 6)
    assert exported_step(path) == 6
    assert not np.array_equal(served(path, images)["kind_logits"], before)
    assert leftovers(path) == []


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["while writing", "while replacing"])
def test_an_export_that_fails_leaves_the_old_one(finished, monkeypatch, moment):
    settings, path, images = finished
    before = served(path, images)["kind_logits"]
    if moment == "while writing":

        def save(model, folder, *arguments, **options):
            os.makedirs(folder)
            with open(os.path.join(folder, "saved_model.pb"), "wb") as stream:
                stream.write(b"half")
            raise KeyboardInterrupt

        monkeypatch.setattr(tf.saved_model, "save", save)
    else:
        rename = os.rename

        def failing(source, target):
            if target == path and not source.endswith(".old"):
                raise KeyboardInterrupt
            rename(source, target)

        monkeypatch.setattr(os, "rename", failing)
    with pytest.raises(KeyboardInterrupt):
        go_on(settings, 6)
    monkeypatch.undo()
    assert exported_step(path) == 3
    np.testing.assert_array_equal(served(path, images)["kind_logits"], before)
    assert leftovers(path) == []
    go_on(settings, 6)  # the run itself is complete; the same command exports it now
    assert exported_step(path) == 6


class DiskIsFull:
    """What TensorFlow and the file system say when a disk is full."""

    @staticmethod
    def while_variables_are_written(monkeypatch):
        def save(*arguments, **options):
            message = "{{function_node a}} /x/variables: No space left on device [Op:SaveV2]\\nmore"
            raise tf.errors.ResourceExhaustedError(None, None, message)

        monkeypatch.setattr(tf.saved_model, "save", save)

    @staticmethod
    def at_the_end(monkeypatch):
        def copy_folder(source, target):
            raise OSError(errno.ENOSPC, "No space left on device", target)

        monkeypatch.setattr(files, "copy_folder", copy_folder)


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["while_variables_are_written", "at_the_end"])
def test_an_export_that_fails_leaves_a_complete_run_and_one_line(
    finished, tmp_path, monkeypatch, capsys, moment
):
    settings, path, _ = finished
    settings = settings.replace(train_steps=6, export_dir=str(tmp_path / "copy"))
    getattr(DiskIsFull, moment)(monkeypatch)
    capsys.readouterr()
    with pytest.raises(ExportError) as caught:
        train(plain_spec(names=NAMES), settings)
    message = str(caught.value)
    assert "The training is complete" in message and "No space left on device" in message
    assert "start the same command again" in message and len(message.splitlines()) == 1
    assert "model folder:" in capsys.readouterr().out  # all that follows a training
    monkeypatch.undo()
    assert last_checkpoint(settings.run.model_dir).step == 6
    assert train(plain_spec(names=NAMES), settings).step == 6
    assert exported_step(path) == exported_step(str(tmp_path / "copy")) == 6


@pytest.mark.slow
def test_a_kill_between_moving_away_and_writing_loses_nothing(finished):
    settings, path, _ = finished
    os.rename(path, path + ".old")
    os.mkdir(os.path.join(os.path.dirname(path), ".saved_model-abandoned"))
    assert ExportedModel(path).load().step == 3
    assert not os.path.exists(path + ".old")
    os.rename(path, path + ".old")
    go_on(settings, 6)
    assert exported_step(path) == 6
    assert leftovers(path) == []


def test_a_kill_while_a_remote_model_is_replaced_leaves_none_that_counts(tmp_path, monkeypatch):
    target = f"ram://{tmp_path.name}/saved_model"
    files.make_folder(target)
    files.write_json(files.join(target, "step.json"), {"step": 3})
    assert exported_step(target) == 3

    def killed(path):
        raise KeyboardInterrupt

    monkeypatch.setattr(files, "remove", killed)
    with pytest.raises(KeyboardInterrupt):
        saved_model._upload(str(tmp_path), target)
    assert exported_step(target) is None


def test_a_signal_is_not_taken_for_a_gradient_that_fails(tmp_path, monkeypatch):
    spec, settings = CaseSpec("sequential"), make_settings({"image_size": 16})
    shape = tuple(export_saved_model.image_spec(spec, settings).shape)
    model = build_model(make_context(spec, settings), shape)

    def heat_maps_of(model, schema):
        def explain(images):
            with contextlib.suppress(signals.Stopped):  # as code of C++ that called Python may
                signal.raise_signal(signal.SIGTERM)
            raise ValueError("a callback failed")

        return explain

    monkeypatch.setattr(saved_model, "heat_maps_of", heat_maps_of)
    what = export_saved_model.servable(spec, settings, schema_of(spec), model)
    with pytest.raises(signals.Stopped), signals.handled():
        saved_model.export_saved_model(str(tmp_path / "saved_model"), what, step=0)
    assert not (tmp_path / "saved_model").exists()
