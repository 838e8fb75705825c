"""Cross-validations of tiny trainings: every example scored once, resumed to the same bits."""

import dataclasses
import json
import os
import pathlib
import shutil
import signal

import numpy as np
import pytest
from PIL import Image

import tiny_runs
from tf_image_classification import compare as tfic_compare
from tf_image_classification import cross_validate as cross_validation
from tf_image_classification.config import make_settings
from tf_image_classification.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    NonFiniteLossError,
    RunInterrupted,
    RunMismatchError,
    UsageError,
)
from tf_image_classification.evaluation.analysis import analyze
from tf_image_classification.evaluation.compare import compare
from tf_image_classification.evaluation.predictions import read_predictions
from tf_image_classification.hooks import NonFiniteLossHook, ProgressHook
from tf_image_classification.model_folder import ModelFolder
from tf_image_classification.run_manifest import RunManifest
from tf_image_classification.workflows import cross_validate as validating
from tf_image_classification.workflows import train_fold as training_fold
from tf_image_classification.workflows.cross_validate import cross_validate
from tf_image_classification.workflows.report import write_report
from tf_image_classification.workflows.run import evaluate
from tf_image_classification.workflows.setup.fold_options import FoldOptions

COUNT = 42


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return tiny_runs.write_records(tmp_path_factory.mktemp("data"), count=COUNT)


def settings(records, folder, **changes):
    made = tiny_runs.tiny_settings(folder, records, **{"train_steps": 6, **changes})
    return make_settings({n: v for n, v in made.values().items() if made.is_chosen(n)})


def run(records, folder, folds=3, repeats=1, spec=None, **changes):
    spec = spec or tiny_runs.TinySpec()
    return cross_validate(spec, settings(records, folder, **changes), FoldOptions(folds, repeats))


@pytest.fixture(scope="module")
def straight(records, tmp_path_factory):
    """A cross-validation in three folds; its result and its folder."""
    folder = tmp_path_factory.mktemp("cv") / "straight"
    return run(records, folder), folder


def assert_same_result(found, expected):
    for name, one in expected.predictions.labels.items():
        other = found.predictions.labels[name]
        for field in ("truth", "predicted", "probabilities", "mask"):
            assert np.array_equal(getattr(other, field), getattr(one, field)), field
    assert found.predictions.uris == expected.predictions.uris
    assert found.scores == expected.scores


def test_every_example_is_scored_once_by_a_model_that_has_not_seen_it(straight):
    result, folder = straight
    pooled = result.predictions
    assert pooled.ids.tolist() == list(range(COUNT)) and pooled.num_folds == 3
    assert len(set(pooled.uris)) == COUNT
    seen = []
    for one in result.folds:
        own = read_predictions(one.fold.folder.predictions)
        held = json.loads((folder / f"fold-{one.fold.number}/held_out.json").read_text())
        assert len(own) == one.num_examples == len(held["examples"]) == COUNT // 3
        manifest = RunManifest.from_json(
            json.loads((folder / f"fold-{one.fold.number}/run.json").read_text())
        )
        assert manifest.num_train_examples == COUNT - COUNT // 3
        seen += own.uris
        rows = [pooled.uris.index(uri) for uri in own.uris]
        assert np.array_equal(
            pooled.labels["kind"].probabilities[rows], own.labels["kind"].probabilities
        )
        assert {pooled.slices["fold"][row] for row in rows} == {str(one.fold.number)}
    assert sorted(seen) == sorted(pooled.uris)
    right = pooled.labels["kind"].is_right
    assert result.scores["kind"].value == pytest.approx(right.mean())
    assert result.to_json()["scores"]["kind"]["metric"] == "accuracy"
    stored = read_predictions(str(folder / "predictions.parquet"))
    assert stored.num_folds == 3 and stored.uris == pooled.uris
    assert json.loads((folder / "judgement.json").read_text())["num_examples"] == COUNT


def test_a_fold_is_scored_by_its_last_checkpoint(straight):
    _, folder = straight
    for number in (1, 2, 3):
        (line,) = tiny_runs.evaluations(folder / f"fold-{number}")
        assert line["step"] == 6 == tiny_runs.last_checkpoint(folder / f"fold-{number}").step
        assert read_predictions(str(folder / f"fold-{number}/predictions.parquet")).step == 6


def test_its_interval_is_wider_than_that_of_one_model(straight):
    result, _ = straight
    pooled = result.predictions
    alone = analyze(dataclasses.replace(pooled, num_folds=0)).labels["kind"].score
    score = result.scores["kind"]
    assert score.high - score.low > alone.high - alone.low
    assert 0 <= score.low <= score.value <= score.high <= 1


@pytest.mark.slow
def test_a_complete_one_is_not_repeated_and_a_removed_fold_is(straight, tmp_path, records):
    result, folder = straight
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    began = []
    before = training_fold.train
    try:
        training_fold.train = lambda *given: began.append(given) or before(*given)
        assert_same_result(run(records, copy), result)
        assert not began
        shutil.rmtree(copy / "fold-2")
        assert_same_result(run(records, copy), result)
        assert len(began) == 1
    finally:
        training_fold.train = before
    tiny_runs.assert_same_bits(
        tiny_runs.last_checkpoint(copy / "fold-2"), tiny_runs.last_checkpoint(folder / "fold-2")
    )


@pytest.mark.slow
def test_an_interrupted_one_continues_and_ends_with_the_same_bits(
    straight, records, tmp_path, monkeypatch
):
    result, folder = straight
    began = []
    begin = ProgressHook.begin

    def begin_and_stop(self, run):
        """The second fold gets a SIGTERM after its third step."""
        begin(self, run)
        began.append(run.step)
        self.after_step = lambda run: (
            os.kill(os.getpid(), signal.SIGTERM) if len(began) == 2 and run.step == 3 else None
        )

    monkeypatch.setattr(ProgressHook, "begin", begin_and_stop)
    with pytest.raises(RunInterrupted, match="Start the same command again"):
        run(records, tmp_path / "stopped", progress=True)
    assert_same_result(run(records, tmp_path / "stopped", progress=True), result)
    assert began == [0, 0, 3, 0]
    for number in (1, 2, 3):
        tiny_runs.assert_same_bits(
            tiny_runs.last_checkpoint(tmp_path / "stopped" / f"fold-{number}"),
            tiny_runs.last_checkpoint(folder / f"fold-{number}"),
        )


@pytest.mark.slow
def test_a_fold_that_fails_is_named_and_the_others_are_kept(
    straight, records, tmp_path, monkeypatch
):
    copy = tmp_path / "copy"
    shutil.copytree(straight[1], copy)
    shutil.rmtree(copy / "fold-2")

    def fail(self, run):
        raise NonFiniteLossError("The loss is nan.")

    with monkeypatch.context() as patch:
        patch.setattr(NonFiniteLossHook, "begin", fail)
        with pytest.raises(NonFiniteLossError, match=r"fold 2, in .*fold-2: The loss is nan"):
            run(records, copy)
    assert_same_result(run(records, copy), straight[0])


def test_other_data_or_settings_are_another_cross_validation(straight, records, tmp_path):
    _, folder = straight
    with pytest.raises(RunMismatchError, match="train_steps: 6 there, 7 now"):
        run(records, folder, train_steps=7)
    with pytest.raises(RunMismatchError, match="folds: 3 there, 4 now"):
        run(records, folder, folds=4)
    more = tiny_runs.write_records(tmp_path, count=COUNT + 1)
    with pytest.raises(RunMismatchError, match="1 example is new, e.g. train/42.png"):
        run(more, folder)
    other = tiny_runs.write_records(
        tmp_path / "other", count=COUNT, labels=lambda i, kind: {"kind": float(i % 2)}
    )
    with pytest.raises(RunMismatchError, match="labels or images have changed"):
        run(other, folder)


@pytest.mark.slow
def test_repeats_divide_anew_and_their_mean_counts_each_example_once(records, tmp_path):
    result = run(records, tmp_path / "cv", folds=2, repeats=2)
    assert [one.fold.title for one in result.folds] == [
        "fold 1", "fold 2", "repeat 2, fold 1", "repeat 2, fold 2",
    ]  # fmt: skip
    first, second = (
        read_predictions(str(tmp_path / "cv" / name / "predictions.parquet"))
        for name in ("", "repeat-2")
    )
    assert first.slices["fold"] != second.slices["fold"]
    assert sorted(first.uris) == sorted(second.uris)
    values = [one["kind"] for one in result.repeats]
    assert result.scores["kind"].value == pytest.approx(np.mean(values))
    assert result.scores["kind"].count == COUNT
    text = validating.table(result)
    assert "all of repeat 2" in text and "models trained on 50 % of the examples" in text


@pytest.mark.slow
def test_two_are_compared_on_the_same_examples(straight, records, tmp_path):
    other = run(records, tmp_path / "cv", folds=2, learning_rate=1e-9).predictions
    found = compare(straight[0].predictions, other)["kind"]
    assert found.difference.count == COUNT


@pytest.mark.slow
def test_folds_in_processes_give_the_same_result(straight, records, tmp_path):
    made = settings(records, tmp_path / "cv")
    spec, options = tiny_runs.TinySpec(), FoldOptions(3)
    with pytest.raises(ConfigError, match="other processes cannot load a spec from Python"):
        cross_validate(spec, made, options, processes=2)
    found = cross_validate(spec, made, options, processes=2, load=tiny_runs.TinySpec)
    assert found.predictions.uris == straight[0].predictions.uris
    one, two = (r.predictions.labels["kind"].probabilities for r in (found, straight[0]))
    # Only nearly: this process has the devices of the tests, and its children have not.
    assert np.allclose(one, two, atol=1e-3)


@pytest.mark.slow
def test_a_group_is_one_fold(tmp_path):
    records = tiny_runs.write_records(
        tmp_path, count=COUNT, labels=lambda i, kind: {"kind": float(kind), "person": f"p{i % 4}"}
    )
    spec = tiny_runs.plain_spec()
    made = settings(records, tmp_path / "cv", group_column="person", train_steps=2)
    result = cross_validate(spec, made, FoldOptions(leave_one_group_out=True))
    assert [one.fold.group for one in result.folds] == ["p0", "p1", "p2", "p3"]
    for one in result.folds:
        people = read_predictions(one.fold.folder.predictions).slices["person"]
        assert set(people) == {one.fold.group}
    assert result.analysis.group == "person"
    assert result.scores["kind"].note == "too few groups"
    grouped = cross_validate(
        spec, made.replace(model_dir=str(tmp_path / "two")), FoldOptions(folds=2)
    )
    homes = {}
    for person, fold in zip(
        grouped.predictions.slices["person"], grouped.predictions.slices["fold"], strict=True
    ):
        homes.setdefault(person, set()).add(fold)
    assert all(len(folds) == 1 for folds in homes.values())


def test_a_gate_rejects_a_cross_validation_and_a_comparison_takes_it(straight):
    _, folder = straight
    with pytest.raises(ConfigError, match="is a cross-validation, which has a model for each fold"):
        tfic_compare(str(folder), str(folder), not_worse=0.1)
    found = tfic_compare(str(folder), str(folder))
    assert found.to_json()["kind"]["verdict"] == "cannot tell"


def test_the_folder_is_no_model_folder_and_says_how_to_train_one(straight, records):
    _, folder = straight
    with pytest.raises(CheckpointError, match=r"cross-validation.*final_model.txt.*fold-1"):
        ModelFolder(str(folder)).known_manifest()
    with pytest.raises(CheckpointError, match="is the folder of a cross-validation"):
        tiny_runs.run(tiny_runs.TinySpec(), folder, records, train_steps=1)
    line = (folder / "final_model.txt").read_text()
    assert line.startswith(f"tfic train '{records}' --eval_split 0 ")
    assert "--train_steps 6" in line and "model_dir" not in line


@pytest.mark.slow
def test_a_built_in_backbone_is_scored_with_the_preprocessing_of_its_training(tmp_path):
    random = np.random.RandomState(0)
    for i in range(16):
        kind = ("cat", "dog")[i % 2]
        (tmp_path / "pets" / kind).mkdir(parents=True, exist_ok=True)
        pixels = random.randint(0, 200, [16, 48, 3], np.uint8)
        pixels[:, : 16 + 32 * (i % 2)] += 50
        Image.fromarray(pixels).save(tmp_path / "pets" / kind / f"{i}.png")
    result = cross_validation(
        tmp_path / "pets", folds=2, model_dir=tmp_path / "cv", backbone="mobilenet_v2",
        checkpoint_path="none", image_size=32, train_steps=1, eval_stretch=3.0, eval_crop=0.8,
        export_saved_model=False,
    )  # fmt: skip
    assert list(result) == ["label"] and len(result.to_pandas()) == 2
    assert "95 % interval of the mean of models trained on 50 % of the examples" in repr(result)
    for number in (1, 2):
        (line,) = tiny_runs.evaluations(tmp_path / "cv" / f"fold-{number}")
        judged = json.loads((tmp_path / f"cv/fold-{number}/judgement.json").read_text())
        overall = judged["labels"]["label"]["measures"]["overall"]
        assert overall["log_loss"]["value"] == pytest.approx(line["log_loss"], rel=1e-4)


@pytest.mark.slow
def test_the_report_shows_all_examples_and_the_folds(records, tmp_path):
    made = settings(records, tmp_path / "cv", train_steps=1, export_saved_model=True)
    result = cross_validation(None, made, folds=2, spec=tiny_runs.TinySpec())
    page = result.report()
    text = pathlib.Path(page.path).read_text()
    assert f"each of {COUNT} examples is scored by the one of 2 models" in text
    assert "fold 1" in text and "Learning curves" not in text
    assert "## Folds" in pathlib.Path(page.model_card).read_text()
    with pytest.raises(ConfigError, match="reported on its own examples"):
        write_report(make_settings({"model_dir": result.model_dir, "eval_metadata": records}))


@pytest.mark.slow
def test_a_fold_is_evaluated_like_any_run(straight):
    _, folder = straight
    copy = str(folder / "fold-1")
    again = evaluate(tiny_runs.TinySpec(), make_settings({"model_dir": copy}), "", "no")
    own = read_predictions(os.path.join(copy, "predictions.parquet"))
    assert again["accuracy"] == pytest.approx(own.labels["kind"].is_right.mean())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"eval_split": 0.2}, "the folds are the evaluation sets"),
        ({"early_stopping_patience": 3, "eval_metadata": ("x",)}, "eval_metadata"),
        ({"allow_changes": True}, "all folds must have the same data"),
        ({"export_dir": "out", "export_saved_model": True}, "each fold has a folder of its own"),
    ],
)
def test_options_that_cannot_be_followed_are_rejected(records, tmp_path, changes, message):
    with pytest.raises(ConfigError, match=message):
        run(records, tmp_path / "cv", **changes)
    assert not (tmp_path / "cv").exists()


def test_there_must_be_examples_and_no_cluster(records, tmp_path, monkeypatch):
    with pytest.raises(UsageError, match="missing: DATA"):
        cross_validate(tiny_runs.TinySpec(), make_settings({}), FoldOptions())
    with pytest.raises(ConfigError, match="needs a local folder"):
        run(records, "gs://bucket/cv")
    with pytest.raises(ConfigError, match="Name the column of the groups"):
        cross_validate(
            tiny_runs.TinySpec(),
            settings(records, tmp_path / "cv"),
            FoldOptions(leave_one_group_out=True),
        )
    with pytest.raises(ConfigError, match="folds is 43, but there are only 42 examples"):
        run(records, tmp_path / "cv", folds=43)
    cluster = {"cluster": {"worker": ["localhost:1"]}, "task": {"type": "worker", "index": 0}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(cluster))
    with pytest.raises(ConfigError, match="trained on one machine"):
        run(records, tmp_path / "cv")


def test_a_run_and_a_damaged_list_are_not_overwritten(straight, records, tmp_path):
    tiny_runs.run(tiny_runs.TinySpec(), tmp_path / "run", records, train_steps=1)
    with pytest.raises(RunMismatchError, match="is the model folder of a training"):
        run(records, tmp_path / "run")
    (tmp_path / "cv").mkdir()
    (tmp_path / "cv" / "cross_validation.json").write_text("{")
    with pytest.raises(DataError, match="the list of the folds, is damaged"):
        run(records, tmp_path / "cv")
