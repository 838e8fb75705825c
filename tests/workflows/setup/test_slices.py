"""Slices of an evaluation set: columns of its source, and the worst of them as a metric."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from tf_image_classification import evaluate
from tf_image_classification.config import make_settings
from tf_image_classification.dataset.table import SourceOptions, read_table
from tf_image_classification.errors import ConfigError
from tf_image_classification.evaluation.predictions import read_predictions
from tf_image_classification.labels import Label, LabelSchema
from tf_image_classification.metrics.class_metrics import worst_group_accuracy
from tf_image_classification.model_folder import ModelFolder
from tf_image_classification.workflows.setup.slices import watched_slices
from tiny_runs import SIZE, evaluations, plain_spec, run, tiny_settings, write_records

NAMES = ("cat", "dog", "emu")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Records to train on, and a CSV whose night images are dark."""
    folder = tmp_path_factory.mktemp("slices")
    records = write_records(folder, "train", count=40)
    random = np.random.RandomState(1)
    lines = ["URIs,kind,light,weight"]
    for i in range(36):
        is_night = i % 4 == 0
        image = random.randint(0, 100, [SIZE, SIZE, 3], np.uint8)
        image[:, 2 * (i % 3) : 2 * (i % 3) + 2] += 0 if is_night else 120
        (folder / f"{i}.png").write_bytes(tf.io.encode_png(image).numpy())
        lines.append(f"{i}.png,{NAMES[i % 3]},{'night' if is_night else 'day'},{i / 10}")
    (folder / "eval.csv").write_text("\n".join(lines))
    return folder, records, str(folder / "eval.csv")


@pytest.mark.slow
def test_the_worst_slice_can_choose_the_checkpoint(world, tmp_path):
    _, records, csv = world
    options = {"slice_column": "light", "best_metric": "worst_slice_accuracy"}
    run(
        plain_spec(names=NAMES), tmp_path / "m", records, csv,
        train_steps=12, eval_every_steps=4, export_saved_model=True, **options,
    )  # fmt: skip
    settings = tiny_settings(tmp_path / "m", records, csv)
    evaluate(None, settings)
    kept = read_predictions(ModelFolder(str(tmp_path / "m")).predictions)
    assert set(kept.slices) == {"light", "weight"}
    of_label = kept.labels["kind"]
    light = np.array(kept.slices["light"])
    worst = min(of_label.is_right[light == value].mean() for value in ("day", "night"))
    lines = evaluations(tmp_path / "m")
    best = [line for line in lines if line["step"] == kept.step]
    assert best[0]["worst_slice_accuracy"] == pytest.approx(worst)
    assert best[0]["worst_slice_accuracy"] == max(line["worst_slice_accuracy"] for line in lines)
    with open(ModelFolder(str(tmp_path / "m")).analysis, encoding="utf-8") as stream:
        slices = json.load(stream)["labels"]["kind"]["slices"]
    assert slices[0]["value"] == "night"


def test_a_column_of_a_set_without_columns_is_refused_in_a_whole_sentence(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.png").write_bytes(b"image")
    schema = LabelSchema((Label("kind", depth=2, class_names=("cat", "dog")),))
    options = SourceOptions(option="eval_metadata", cache_dir=str(tmp_path))
    table = read_table([str(tmp_path)], schema, options).encode(schema)
    settings = make_settings({"eval_metadata": [str(tmp_path)], "slice_column": "light"})
    data = SimpleNamespace(schema=schema, evaluation=SimpleNamespace(table=table))
    with pytest.raises(ConfigError, match=r"has no column 'light'\. There are none\.$"):
        watched_slices(settings, data)


def test_a_column_that_is_not_there_is_refused(world, tmp_path):
    _, records, csv = world
    with pytest.raises(ConfigError, match="light"):
        run(plain_spec(names=NAMES), tmp_path / "m", records, csv, train_steps=1,
            slice_column="lights")  # fmt: skip
    with pytest.raises(ConfigError, match="'kind' is a label of the model"):
        run(plain_spec(names=NAMES), tmp_path / "m", records, csv, train_steps=1,
            slice_column="kind")  # fmt: skip
    with pytest.raises(ConfigError, match="eval_metadata"):
        run(plain_spec(), tmp_path / "n", records, train_steps=1, slice_column="light")


@pytest.mark.slow
def test_many_numbers_are_watched_by_quarters_as_the_report_shows_them(tmp_path):
    """Each by itself would be too few examples to watch."""
    random = np.random.RandomState(0)
    lines = ["URIs,kind,weight"]
    for i in range(60):
        image = random.randint(0, 100, [SIZE, SIZE, 3], np.uint8)
        image[:, 2 * (i % 3) : 2 * (i % 3) + 2] += min(120, 2 * i)
        (tmp_path / f"{i}.png").write_bytes(tf.io.encode_png(image).numpy())
        lines.append(f"{i}.png,{NAMES[i % 3]},{i / 10}")
    (tmp_path / "all.csv").write_text("\n".join(lines))
    csv = str(tmp_path / "all.csv")
    options = {"slice_column": "weight", "eval_every_steps": 4, "export_saved_model": True}
    run(plain_spec(names=NAMES), tmp_path / "m", csv, csv, train_steps=4, **options)
    evaluate(None, tiny_settings(tmp_path / "m", csv, csv))
    with open(ModelFolder(str(tmp_path / "m")).analysis, encoding="utf-8") as stream:
        slices = json.load(stream)["labels"]["kind"]["slices"]
    assert len(slices) == 4
    worst = evaluations(tmp_path / "m")[-1]["worst_slice_accuracy"]
    assert worst == pytest.approx(min(one["score"]["value"] for one in slices))


@pytest.mark.slow
def test_columns_are_joined_by_example_whatever_the_paths_look_like(world, tmp_path):
    """A parenthesis in a folder's name, a row twice, and records with features beside."""
    _, records, _ = world
    folder = tmp_path / "a (1) record 3"
    folder.mkdir()
    lines = ["URIs,kind,light"]
    for i in range(18):
        image = np.full([SIZE, SIZE, 3], 40 * (i % 3) + 10 * (i % 2), np.uint8)
        (folder / f"{i} (b).png").write_bytes(tf.io.encode_png(image).numpy())
        lines.append(f"{i} (b).png,{NAMES[i % 3]},{'night' if i % 2 else 'day'}")
    (folder / "rows.csv").write_text("\n".join([*lines, lines[-1].replace("night", "dusk")]))
    csv = str(folder / "rows.csv")
    options = {"slice_column": "light", "eval_every_steps": 2, "export_saved_model": True}
    run(plain_spec(names=NAMES), tmp_path / "m", records, csv, train_steps=2, **options)
    evaluate(None, tiny_settings(tmp_path / "m", records, csv))
    kept = read_predictions(ModelFolder(str(tmp_path / "m")).predictions)
    assert kept.slices["light"] == ["day", "night"] * 9 + ["dusk"]
    is_right, light = kept.labels["kind"].is_right, np.array(kept.slices["light"])
    worst = min(is_right[light == value].mean() for value in ("day", "night"))
    assert evaluations(tmp_path / "m")[-1]["worst_slice_accuracy"] == pytest.approx(worst)

    with_light = write_records(
        tmp_path / "b (2)", "eval", count=20,
        labels=lambda i, kind: {"kind": float(kind), "light": "night" if i % 3 else "day"},
    )  # fmt: skip
    evaluate(None, tiny_settings(tmp_path / "m", records, with_light))
    kept = read_predictions(ModelFolder(str(tmp_path / "m")).predictions)
    numbers = [int(uri.rpartition("record ")[2]) * 2 + ("00001-of" in uri) for uri in kept.uris]
    assert kept.slices["light"] == ["night" if i % 3 else "day" for i in numbers]
    assert sorted(numbers) == list(range(20))


def test_worst_group_accuracy_merges_and_leaves_small_groups_out():
    is_right = np.array([True, False, True, True])
    first = worst_group_accuracy(is_right, np.array([0, 0, 1, -1]), 3, min_examples=2)
    second = worst_group_accuracy(is_right, np.array([1, 1, 1, 2]), 3, min_examples=2)
    assert first.result() == 0.5
    assert first.merge(second).result() == 0.5
    alone = worst_group_accuracy(is_right[:1], np.array([0]), 1, min_examples=2)
    assert np.isnan(alone.result())
