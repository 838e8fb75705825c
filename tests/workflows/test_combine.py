"""Soups and ensembles of small runs: their predictions, their folders, and wrong members."""

import shutil

import numpy as np
import pytest

import tf_image_classification as tfic
import tiny_runs
from serving.shipped_run import TinyMaps
from tf_image_classification import evaluate, make_settings
from tf_image_classification.cli.main import main
from tf_image_classification.errors import (
    CheckpointError,
    ConfigError,
    RunMismatchError,
    UsageError,
)
from tf_image_classification.evaluation.predictions import read_predictions
from tf_image_classification.model_folder import ModelFolder
from tf_image_classification.workflows.combine import combine, greedy_choice, mean_weights
from tf_image_classification.workflows.setup.weights import newest_weights


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Two runs of one network from two seeds, a copy of the first, and their data."""
    folder = tmp_path_factory.mktemp("combine")
    train = tiny_runs.write_records(folder, "train", count=30)
    evaluation = tiny_runs.write_records(folder, "eval", count=30, seed=1)
    for seed in (0, 1):
        tiny_runs.run(
            TinyMaps(), folder / f"m{seed}", train, evaluation, seed=seed, train_steps=4,
            export_saved_model=True,
        )  # fmt: skip
    shutil.copytree(folder / "m0", folder / "copy")
    return folder


def combined(world, members, how, name, **options):
    settings = make_settings({"model_dir": str(world / name), **options})
    spec = None if how == "ensemble" else TinyMaps()
    return combine([str(world / member) for member in members], settings, how, spec)


def probabilities(folder):
    """Of the evaluation's examples, as ``tfic evaluate`` stores them."""
    evaluate(None, make_settings({"model_dir": str(folder), "progress": False}))
    kept = read_predictions(ModelFolder(str(folder)).predictions)
    return kept.labels["kind"].probabilities


@pytest.mark.slow
def test_an_ensemble_predicts_the_mean_of_the_probabilities(world):
    combined(world, ["m0", "m1"], "ensemble", "ensemble")
    mean = (probabilities(world / "m0") + probabilities(world / "m1")) / 2
    np.testing.assert_allclose(probabilities(world / "ensemble"), mean, atol=1e-5)
    with pytest.raises(CheckpointError, match="is an ensemble, which has no weights"):
        newest_weights(ModelFolder(str(world / "ensemble")))


@pytest.mark.slow
def test_a_soup_of_equal_members_predicts_as_they_do(world):
    combined(world, ["m0", "copy"], "soup", "same")
    found, expected = probabilities(world / "same"), probabilities(world / "m0")
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.slow
def test_a_soup_has_the_mean_of_the_weights_and_cannot_be_trained_further(world):
    found = combined(world, ["m0", "m1"], "soup", "soup")
    assert "did not start from the same pretrained weights" in " ".join(found.notes)
    a, b, both = (
        newest_weights(ModelFolder(str(world / name)))[0].tensors for name in ("m0", "m1", "soup")
    )
    for name, value in both.items():
        np.testing.assert_allclose(value, (a[name] + b[name]) / 2, rtol=1e-6, atol=1e-7)
    with pytest.raises(RunMismatchError, match="checkpoint_path.*soup.* to start from"):
        tiny_runs.run(TinyMaps(), world / "soup", str(world / "train-*"), train_steps=5)
    facts = ModelFolder(str(world / "soup")).known_manifest().model_facts()
    assert facts["network"] == "soup of 2 models (TinyMaps)"


@pytest.mark.slow
def test_a_greedy_soup_is_at_least_as_good_as_its_best_member(world, capsys):
    found = combined(world, ["m0", "m1"], "greedy", "greedy")
    assert found.metric == "loss"
    assert found.score <= min(found.scores.values())
    assert set(found.members) <= {str(world / "m0"), str(world / "m1")}


@pytest.mark.slow
def test_models_are_combined_from_python(world):
    members = [tfic.load_model(world / "m0"), world / "m1"]
    model = tfic.combine(members, world / "python", how="ensemble")
    assert model.classes == ("cat", "dog", "emu")
    assert len(model.predict(np.zeros([2, 9, 9, 3], np.uint8))) == 2
    with pytest.raises(UsageError, match="how is 'mean', expected one of soup"):
        tfic.combine(members, world / "x", how="mean")


def test_the_greedy_choice_adds_members_that_do_not_hurt():
    calls = []

    def score(members):
        calls.append(list(members))
        return {(1, 2): 0.8, (1, 0): 0.9, (1, 0, 3): 0.95}[tuple(members)]

    assert greedy_choice([0.7, 0.9, 0.8, 0.6], score, higher=True) == ([1, 0, 3], 0.95)
    assert calls == [[1, 2], [1, 0], [1, 0, 3]]
    low = greedy_choice([0.2, 0.1], lambda members: 0.3, higher=False)
    assert low == ([1], 0.1)


def test_mean_weights_keeps_what_is_no_real_number():
    members = [{"w": np.float32([1, 3]), "n": np.int64(4)}, {"w": np.float32([3, 3]), "n": 9}]
    mean = mean_weights(members)
    np.testing.assert_array_equal(mean["w"], [2, 3])
    assert (mean["w"].dtype, mean["n"]) == (np.float32, 4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("members", "how", "options", "message"),
    [
        (["m0"], "soup", {}, "needs two or more model folders, found 1"),
        (["m0", "m0"], "soup", {}, "m0 is given twice"),
        (["m0", "gone"], "soup", {}, "gone' is not there"),
        (["m0", "other"], "ensemble", {}, "The labels differ: kind: 3 classes .cat, dog, emu. in"),
        (["m0", "larger"], "ensemble", {}, "image_size differs: 8 in .*m0, 16 in .*larger"),
        (["m0", "m1"], "soup", {"model_dir": "m1"}, "exists already, and combine writes a new"),
    ],
)
def test_members_that_do_not_fit_are_named(world, members, how, options, message):
    for name, old, new in (("other", '"emu"', '"fox"'), ("larger", '"image_size": 8', "")):
        if not (world / name).exists():
            shutil.copytree(world / "m0", world / name)
            path = world / name / "run.json"
            path.write_text(path.read_text().replace(old, new or '"image_size": 16'))
    options = {name: str(world / value) for name, value in options.items()}
    with pytest.raises((ConfigError, CheckpointError), match=message):
        combined(world, members, how, "wrong", **options)
    assert not (world / "wrong").exists()


@pytest.mark.slow
def test_a_soup_of_own_networks_needs_their_spec(world):
    settings = make_settings({"model_dir": str(world / "wrong")})
    with pytest.raises(ConfigError, match="Give it: --spec file.py:Class"):
        combine([str(world / "m0"), str(world / "m1")], settings)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("combine", "missing"),
        ("combine a b", "missing"),
        ("combine a b --model_dir c --how mean", "expected one of soup, greedy, ensemble"),
        ("combine a b --model_dir c --how ensemble --spec s.py:S", "no effect with --how ensemble"),
        ("combine a b --output_dir c", "Use --model_dir"),
        ("ensemble a b", "Write tfic combine"),
        ("soup a b", "Write tfic combine"),
    ],
)
def test_what_people_type(line, message, capsys):
    try:
        status = main(line.split())
    except SystemExit as error:
        status = error.code
    assert status == 2
    assert message in capsys.readouterr().err
