"""A warm start from weights that bring their class names: rows of the output by name."""

import json
import os
import re
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf

from serving.shipped_run import NAMES
from tf_image_classification import make_settings, train_estimator
from tf_image_classification.checkpoints.class_rows import classes_of, row_changes
from tf_image_classification.checkpoints.store import CheckpointStore
from tf_image_classification.checkpoints.warm_start import warm_start
from tf_image_classification.errors import CheckpointError
from tf_image_classification.export.request import ExportRequest
from tf_image_classification.hooks import LoadCheckpointHook
from tf_image_classification.labels import Label, LabelSchema
from tf_image_classification.workflows import export
from tiny_runs import SIZE, TinySpec, last_checkpoint, run, tiny_settings, write_records

OLD = ("ant", "bee", "cat")


def spec(names):
    return TinySpec(noise=0.0, names=names, depth=len(names))


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return write_records(tmp_path_factory.mktemp("records"), count=12)


@pytest.fixture(scope="module")
def first(tmp_path_factory, records):
    """A model folder of ours with an exported model, whose classes are ant, bee and cat."""
    folder = tmp_path_factory.mktemp("first") / "m"
    run(spec(OLD), folder, records, records, train_steps=4, export_saved_model=True)
    return folder


def kernel(folder, step=None):
    store = CheckpointStore(str(folder / "checkpoints"))
    return store.load(store.steps()[0] if step is None else step).tensors["model/logits/kernel"]


@pytest.mark.slow
@pytest.mark.exhaustive_after(2)
@pytest.mark.parametrize(
    ("names", "sources", "text", "strategy"),
    [
        (("bee", "cat", "dog"), (1, 2, None), "2 of 3 classes loaded by name; new, at "
         "initialisation: dog; not used from the file: ant", "mirrored"),
        (("ant", "ape", "bee", "cat"), (0, None, 1, 2), "3 of 4 .*initialisation: ape", "auto"),
        (("ant", "cat"), (0, 2), "2 of 2 .* by name; not used from the file: bee", "auto"),
        (("cat", "bee", "ant"), (2, 1, 0), "3 of 3 classes loaded by name", "auto"),
        (("x", "y", "z"), (None, None, None), "0 of 3 .*initialisation: x, y, z", "auto"),
    ],
)  # fmt: skip
def test_rows_are_loaded_by_name_and_new_classes_start_fresh(
    first, records, tmp_path, capsys, names, sources, text, strategy
):
    trainer = {"train_steps": 1, "strategy": strategy}
    target = write_records(tmp_path, count=12, labels=lambda i, kind: {"kind": kind % len(names)})
    run(spec(names), tmp_path / "fresh", target, **trainer)
    initial = kernel(tmp_path / "fresh")
    capsys.readouterr()
    run(spec(names), tmp_path / "m", target, checkpoint_path=str(first), **trainer)
    old, new = last_checkpoint(first).tensors["model/logits/kernel"], kernel(tmp_path / "m")
    for ours, theirs in enumerate(sources):
        expected = initial[:, ours] if theirs is None else old[:, theirs]
        np.testing.assert_array_equal(new[:, ours], expected)
    report = json.loads((tmp_path / "m" / "warm_start.json").read_text())
    [sentence] = report["classes"]
    assert re.search(f"label 'kind': {text}", sentence)
    assert sentence in capsys.readouterr().out
    assert "norm/gamma" in " ".join(report["loaded"])  # the body is loaded whatever the classes


@pytest.mark.slow
@pytest.mark.parametrize("names", [OLD, ("0", "1", "2")])
def test_the_same_names_and_none_are_loaded_by_number(first, records, tmp_path, names):
    run(spec(names), tmp_path / "m", records, checkpoint_path=str(first), train_steps=1)
    old = last_checkpoint(first).tensors["model/logits/kernel"]
    np.testing.assert_array_equal(kernel(tmp_path / "m"), old)
    assert json.loads((tmp_path / "m" / "warm_start.json").read_text())["classes"] == []


@pytest.mark.slow
def test_every_part_of_a_model_folder_and_its_copies_bring_the_names(shipped_folder, tmp_path):
    first = shipped_folder / "model"
    store = CheckpointStore(str(first / "checkpoints"))
    shutil.copytree(first / "saved_model", tmp_path / "elsewhere")
    for path in (
        first,
        first / "checkpoints",
        first / "best",
        store.prefix(store.steps()[-1]),
        f"{store.prefix(store.steps()[-1])}.index",
        first / "saved_model",
        first / "saved_model" / "variables" / "variables",
        tmp_path / "elsewhere",
    ):
        assert {n: x.class_names for n, x in classes_of(str(path)).items()} == {"kind": NAMES}, path
    assert classes_of(str(tmp_path / "absent.ckpt")) == {}


@pytest.mark.slow
def test_exported_files_bring_the_names_wherever_they_are(first, tmp_path):
    settings = make_settings({"model_dir": str(first)})
    for form in ("keras", "saved_model"):
        own = spec(OLD) if form == "keras" else None
        exported = export.export_folder(settings, ExportRequest(form), own)
        [written] = [n for n in os.listdir(exported.path) if n.startswith(("model.keras", "saved"))]
        path = os.path.join(exported.path, written)
        moved = str(tmp_path / written)
        (shutil.copytree if form == "saved_model" else shutil.copy)(path, moved)
        for place in (path, moved):
            assert classes_of(place)["kind"].class_names == OLD, place


def small(depth):
    keras.utils.clear_session()
    images = keras.Input([SIZE, SIZE, 3])
    x = keras.layers.Flatten()(keras.layers.Dense(depth, name="wide")(images))
    return keras.Model(images, keras.layers.Dense(depth, name="top")(x))


def schema_of(*names):
    return LabelSchema((Label("kind", depth=len(names), class_names=names),))


@pytest.mark.slow_after(1)
@pytest.mark.parametrize("text", ["b\na\nc\n", "0:b\n1:a\n2:c\n"])
@pytest.mark.filterwarnings("ignore:You are saving your model")
@pytest.mark.parametrize("form", [".h5", ".weights.h5", ".keras"])
def test_names_beside_a_file_of_weights_count(tmp_path, text, form):
    source, path = small(3), str(tmp_path / f"model{form}")
    source.save_weights(path) if form == ".weights.h5" else source.save(path)
    (tmp_path / "labels.txt").write_text(text)
    target = small(3)
    report = warm_start(target, path, schema=schema_of("a", "b", "c"))
    theirs, ours = source.get_layer("top").get_weights(), target.get_layer("top").get_weights()
    np.testing.assert_array_equal(ours[0], theirs[0][:, [1, 0, 2]])
    # A layer inside that happens to be as wide as there are classes is loaded as it is.
    wide = [model.get_layer("wide").get_weights()[0] for model in (source, target)]
    np.testing.assert_array_equal(*wide)
    assert report.classes == ("label 'kind': 3 of 3 classes loaded by name",)


def test_the_output_is_found_behind_a_named_input_and_beside_states_of_random_layers(caplog):
    image = keras.Input([8, 8, 3], name="picture")
    x = keras.layers.Dropout(0.5)(keras.layers.Flatten()(image))
    model = keras.Model({"picture": image}, keras.layers.Dense(2, name="logits")(x))
    theirs = {"kind": Label("kind", depth=2, class_names=("b", "a"))}
    changes = row_changes(model, schema_of("a", "b"), theirs, [8, 8, 3])
    assert set(changes) == {"logits/kernel", "logits/bias"}
    assert "watched tensor" not in caplog.text  # the state of dropout has two whole numbers


@pytest.mark.slow
def test_names_of_something_else_beside_a_file_do_not_count(tmp_path):
    source, path = small(3), str(tmp_path / "model.weights.h5")
    source.save_weights(path)
    (tmp_path / "labels.txt").write_text("a\nb\nc\nd\n")  # of the new data, say
    target = small(3)
    report = warm_start(target, path, schema=schema_of("x", "y", "z"))
    assert report.classes == () and len(report.loaded) == 4
    (tmp_path / "labels.txt").write_text("a\n\nb\n")
    assert classes_of(path) == {}


@pytest.mark.slow
def test_names_are_the_same_in_every_unicode_form(tmp_path):
    source, path = small(2), str(tmp_path / "model.weights.h5")
    source.save_weights(path)
    (tmp_path / "labels.txt").write_text("thé\ncafe\u0301\n", encoding="utf-8")
    target = small(2)
    report = warm_start(target, path, schema=schema_of("caf\u00e9", "th\u00e9"))
    assert report.classes == ("label 'kind': 2 of 2 classes loaded by name",)


class Coupled(keras.Model):
    """Logits of which each depends on all rows, so that no row belongs to one class."""

    def __init__(self):
        super().__init__()
        self.flat, self.top = keras.layers.Flatten(), keras.layers.Dense(2, name="top")

    def call(self, x, training=False):
        return tf.nn.log_softmax(self.top(self.flat(x)))


def test_an_output_that_is_not_found_is_refused_unless_it_is_left_out(tmp_path):
    models = Coupled(), Coupled()
    for model in models:
        model(np.zeros([1, SIZE, SIZE, 3], "f4"))
    path = str(tmp_path / "model.weights.h5")
    models[0].save_weights(path)
    (tmp_path / "labels.txt").write_text("b\na\n")
    more = {"schema": schema_of("a", "b"), "image_shape": (SIZE, SIZE, 3)}
    with pytest.raises(
        CheckpointError, match="b, a in the weights and a, b in the model, but no variable"
    ):
        warm_start(models[1], path, **more)
    with pytest.raises(CheckpointError, match="Nothing fits"):  # it has nothing else
        warm_start(models[1], path, exclude_scopes=("coupled",), **more)


@pytest.mark.slow
def test_the_load_hook_loads_by_name_too(first, records, tmp_path):
    hook = LoadCheckpointHook(str(first))
    run(spec(("bee", "cat", "dog")), tmp_path / "m", records, hooks=[hook], train_steps=1)
    old, new = last_checkpoint(first).tensors["model/logits/kernel"], kernel(tmp_path / "m")
    np.testing.assert_array_equal(new[:, :2], old[:, 1:])


@pytest.mark.slow
def test_the_same_pictures_with_one_class_renamed_are_still_told_apart(tmp_path):
    random = np.random.RandomState(0)

    def pictures(root, names):
        for kind, name in enumerate(names):
            folder = tmp_path / root / name
            folder.mkdir(parents=True)
            for i in range(6):
                image = random.randint(0, 60, [SIZE, SIZE, 3], np.uint8) + 150 * kind
                png = tf.io.encode_png(image.astype(np.uint8))
                (folder / f"{i}.png").write_bytes(png.numpy())
        return str(tmp_path / root)

    class Pets(TinySpec):
        def __init__(self, depth):
            super().__init__(noise=0.0, batch_norm=False, depth=depth)

    one, two = pictures("one", ["cat", "dog"]), pictures("two", ["zcat", "dog"])
    run(Pets(2), tmp_path / "first", one, one, train_steps=40)
    more = {"checkpoint_path": str(tmp_path / "first"), "train_steps": 1, "learning_rate": 0.0}
    run(Pets(2), tmp_path / "second", two, two, **more)
    settings = tiny_settings(tmp_path / "second", two, two)
    accuracy = train_estimator.evaluate(Pets(2), settings)["accuracy"]
    assert accuracy > 0.45  # by number every picture would be of the other class
    biases = [
        last_checkpoint(tmp_path / n).tensors["model/logits/bias"] for n in ("first", "second")
    ]
    assert biases[1][0] == biases[0][1]  # of dogs
