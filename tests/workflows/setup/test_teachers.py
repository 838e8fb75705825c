"""Distillation: the formula, what the teacher sees, resuming, and teachers that do not fit."""

import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf

import tiny_runs
from serving.shipped_run import TinyMaps
from tf_image_classification.config import TrainingSettings
from tf_image_classification.errors import ConfigError, DataError, RunMismatchError, TficError
from tf_image_classification.labels import Label, LabelSchema
from tf_image_classification.model_folder import ModelFolder
from tf_image_classification.optim.distillation import can_be_distilled, distilled

SCHEMA = LabelSchema(
    (
        Label("pet", depth=4),
        Label("tags", depth=3, kind="multilabel"),
        Label("age", depth=5, kind="ordinal"),
        Label("size", kind="regression"),
    )
)


@pytest.mark.parametrize("temperature", [1.0, 2.0, 5.0])
@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0])
def test_the_loss_is_the_published_formula(temperature, weight):
    random = np.random.default_rng(0)
    student, teacher = (
        {n: random.normal(0, 3, (6, *SCHEMA[n].logits_shape)).astype("f4") for n in SCHEMA.names}
        for _ in range(2)
    )
    losses = {name: random.random(6).astype("f4") for name in SCHEMA.names}
    options = TrainingSettings(distillation_temperature=temperature, distillation_weight=weight)
    found = distilled(SCHEMA, options, losses, student, teacher)

    def softmax(z):
        z = np.exp(z.astype("f8") / temperature)
        return z / z.sum(1, keepdims=True)

    p, q = softmax(teacher["pet"]), softmax(student["pet"])
    of_pet = (p * np.log(p / q)).sum(1)
    p, q = (1 / (1 + np.exp(-z["tags"].astype("f8") / temperature)) for z in (teacher, student))
    of_tags = (p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))).mean(1)
    for name, divergence in (("pet", of_pet), ("tags", of_tags)):
        expected = (1 - weight) * losses[name] + weight * temperature**2 * divergence
        np.testing.assert_allclose(found[name], expected, rtol=2e-4, atol=1e-5)
    for name in ("age", "size"):
        assert not can_be_distilled(SCHEMA[name])
        np.testing.assert_array_equal(found[name], losses[name])


class OtherPixels(TinyMaps):
    def get_preproc_fn(self, is_training):
        return lambda image, width, height, seed: tf.image.resize(image, [height, width])


class Wide(TinyMaps):
    """Larger images than the student's."""


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Teachers: of the student's image size, of twice that, of other pixels; and the examples."""
    folder = tmp_path_factory.mktemp("teachers")
    records = tiny_runs.write_records(folder, count=24)
    for name, spec, options in (
        ("good", TinyMaps(), {"train_steps": 30, "learning_rate": 0.05}),
        ("large", Wide(), {"train_steps": 2, "image_size": 16}),
        ("pixels", OtherPixels(), {"train_steps": 1}),
    ):
        tiny_runs.run(spec, folder / name, records, export_saved_model=True, **options)
    return folder, records


def student(world, name, *teachers, **changes):
    folder, records = world
    options = {"train_steps": 4, "learning_rate_decay_type": "fixed", "batch_size": 8} | changes
    given = tuple(str(folder / teacher) for teacher in teachers)
    return tiny_runs.run(TinyMaps(), folder / name, records, teacher=given, **options)


@pytest.mark.slow
def test_with_the_whole_weight_the_labels_do_not_matter(world, tmp_path):
    """Trained on wrong labels, the student still learns what the teacher knows."""
    wrong = tiny_runs.write_records(
        tmp_path, count=24, labels=lambda n, kind: {"kind": float((kind + 1) % 3)}
    )
    right = world[1]
    options = {"train_steps": 40, "learning_rate": 0.05, "batch_size": 8, "eval_every_steps": 40}
    tiny_runs.run(
        TinyMaps(), tmp_path / "m", wrong, right, teacher=(str(world[0] / "good"),),
        distillation_weight=1.0, inspect=False, **options,
    )  # fmt: skip
    assert tiny_runs.evaluations(tmp_path / "m")[-1]["accuracy"] > 0.9


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"gradient_accumulation_steps": 4},
        {"strategy": "mirrored"},
        {"mixup_alpha": 0.5, "strategy": "mirrored"},
    ],
)
def test_parts_and_devices_learn_the_same(world, changes):
    mixing = {name: value for name, value in changes.items() if name == "mixup_alpha"}
    names = [f"{len(changes)}-{next(iter(changes))}-{part}" for part in "ab"]
    whole = student(world, names[0], "good", "large", **mixing)
    parts = student(world, names[1], "good", "large", **changes)
    assert tiny_runs.largest_difference(parts, whole) < 2e-5


@pytest.mark.slow
def test_a_run_resumes_to_the_same_bits_but_not_with_another_teacher(world):
    straight = student(world, "straight", "good")
    student(world, "parts", "good", train_steps=2)
    tiny_runs.assert_same_bits(student(world, "parts", "good"), straight)
    with pytest.raises(RunMismatchError, match="teacher: .* there, none now"):
        student(world, "parts", train_steps=6)
    with pytest.raises(RunMismatchError, match="by the content of its exported model"):
        student(world, "parts", "large", train_steps=6)
    shutil.copytree(world[0] / "good", world[0] / "moved")
    student(world, "parts", "moved", train_steps=5)  # the same model elsewhere
    assert len(ModelFolder(str(world[0] / "parts")).known_manifest().teachers) == 1


@pytest.mark.slow
def test_temperature_and_weight_change_the_step(world):
    ends = [
        student(world, f"weight-{n}", "good", **changes).tensors["model/logits/kernel"]
        for n, changes in enumerate(
            ({}, {"distillation_temperature": 5.0}, {"distillation_weight": 0.9})
        )
    ]
    assert all(abs(end - ends[0]).max() > 1e-4 for end in ends[1:])


@pytest.mark.slow
def test_teachers_that_do_not_fit_are_named(world):
    folder = world[0]
    shutil.copytree(folder / "good", folder / "names")
    path = folder / "names" / "run.json"
    path.write_text(path.read_text().replace('"emu"', '"fox"'))
    shutil.copytree(folder / "good", folder / "unfinished")
    shutil.rmtree(folder / "unfinished" / "saved_model")
    keras.Sequential([keras.Input([2]), keras.layers.Dense(1)]).save(folder / "net.keras")
    for teacher, kind, message in (
        ("names", ConfigError, "knows kind .cat, dog, fox.; expected kind with the classes cat"),
        ("unfinished", DataError, "has no exported model"),
        ("net.keras", TficError, "is a file of weights, not a model folder"),
        ("pixels", ConfigError, "takes pixels scaled by"),
        ("wrong", TficError, "is not there"),
    ):
        with pytest.raises(kind, match=message):
            student(world, "wrong", teacher)
        assert not (folder / "wrong").exists()
    with pytest.raises(ConfigError, match="is the folder that this run trains in"):
        student(world, "good", "good")
