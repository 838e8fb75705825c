"""Studies of tiny trainings, through Optuna itself."""

import json
import os
import signal
import sys

import numpy as np
import pytest
import yaml
from PIL import Image

import tiny_runs
from tf_image_classification.cli import tune as tune_verb
from tf_image_classification.config import make_settings
from tf_image_classification.config.command_line import read_settings_file
from tf_image_classification.config.search_space import Parameter, parameters_of
from tf_image_classification.errors import ConfigError, DataError, RunInterrupted, RunMismatchError
from tf_image_classification.workflows import tune as tuning
from tf_image_classification.workflows.tune import TuneOptions, check_space, sample, tune

RATES = (Parameter("learning_rate", 1e-6, 0.1, is_log=True),)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    return {
        "train": tiny_runs.write_records(folder),
        "evaluation": tiny_runs.write_records(folder, "eval", count=17, seed=1),
    }


def settings(data, **changes):
    defaults = {"train_steps": 12, "eval_every_steps": 4, "save_checkpoints_steps": 3}
    made = tiny_runs.tiny_settings(
        "unused", data["train"], data["evaluation"], **(defaults | changes)
    )
    without = {n: v for n, v in made.values().items() if made.origin(n) != "default"}
    for name in ("model_dir", "learning_rate", "optimizer"):
        without.pop(name, None)
    return make_settings(without)


def options(folder, trials, **more):
    return TuneOptions(study_dir=str(folder), trials=trials, **more)


def trials_of(folder):
    with open(os.path.join(folder, "trials.jsonl"), encoding="utf-8") as stream:
        return [json.loads(line) for line in stream]


@pytest.mark.exhaustive
def test_a_study_finds_the_rate_that_learns(data, tmp_path):
    best = tune(tiny_runs.TinySpec(), settings(data), RATES, options(tmp_path, 6))
    trials = trials_of(tmp_path)
    assert len(trials) == 6
    values = [trial["value"] for trial in trials]
    winner = trials[values.index(min(values))]
    assert best == winner["settings"]
    assert min(values) < 0.7 * max(values)  # rates of 1e-6 learn nothing
    made = make_settings(file=read_settings_file(str(tmp_path / "best.yml")), file_path="best.yml")
    assert made.schedule.learning_rate == best["learning_rate"]
    assert made.training.train_steps == 12
    assert {path.name for path in (tmp_path / "plots").iterdir()} == {
        "history.png", "slice.png", "importances.png",
    }  # fmt: skip
    assert winner["folder"] in tuning.table(str(tmp_path)).splitlines()[1]
    for trial in trials:
        record = json.loads((tmp_path / trial["folder"] / "run.json").read_text())
        assert record["settings"]["learning_rate"] == trial["settings"]["learning_rate"]


@pytest.mark.slow
def test_an_interrupted_study_goes_on_and_ends_as_if_it_had_not_been(data, tmp_path, monkeypatch):
    tune(tiny_runs.TinySpec(), settings(data), RATES, options(tmp_path / "straight", 3))
    began = []
    begin = tuning.PruningHook.begin

    def begin_and_stop(self, run):
        """The second trial gets a SIGTERM after its fifth step."""
        begin(self, run)
        began.append(run.step)
        self.after_step = lambda run: (
            os.kill(os.getpid(), signal.SIGTERM) if len(began) == 2 and run.step == 5 else None
        )

    monkeypatch.setattr(tuning.PruningHook, "begin", begin_and_stop)
    study = (tiny_runs.TinySpec(), settings(data), RATES, options(tmp_path / "stopped", 3))
    with pytest.raises(RunInterrupted):
        tune(*study)
    tune(*study)
    assert began == [0, 0, 5, 0]  # the trial went on where it was
    straight, stopped = (trials_of(tmp_path / name) for name in ("straight", "stopped"))
    assert stopped == straight
    for trial in straight:
        tiny_runs.assert_same_bits(
            tiny_runs.last_checkpoint(tmp_path / "stopped" / trial["folder"]),
            tiny_runs.last_checkpoint(tmp_path / "straight" / trial["folder"]),
        )
    tune(*study)  # complete: nothing more is trained
    assert len(began) == 4


@pytest.mark.exhaustive
def test_a_pruner_ends_bad_trials_early(data, tmp_path):
    rates = (Parameter("learning_rate", choices=(0.03, 0.02, 0.01, 1e-6, 1e-7)),)
    made = settings(data, train_steps=24, eval_every_steps=4)
    tune(
        tiny_runs.plain_spec(), made, rates,
        options(tmp_path, 5, sampler="grid", pruner="median"),
    )  # fmt: skip
    trials = trials_of(tmp_path)
    states = {trial["settings"]["learning_rate"]: trial["state"] for trial in trials}
    assert len(states) == 5
    pruned = [trial for trial in trials if trial["state"] == "pruned"]
    assert pruned
    for trial in pruned:
        assert tiny_runs.last_checkpoint(tmp_path / trial["folder"]).step < 24


@pytest.mark.slow
def test_a_rate_that_blows_up_is_a_failed_trial_and_the_study_goes_on(data, tmp_path):
    rates = (Parameter("learning_rate", choices=(0.01, 1e30)),)
    made = settings(data).replace(optimizer="sgd")
    tune(tiny_runs.plain_spec(), made, rates, options(tmp_path, 2, sampler="grid"))
    failed = [trial for trial in trials_of(tmp_path) if trial["state"] == "fail"]
    assert [trial["settings"]["learning_rate"] for trial in failed] == [1e30]
    assert "not finite" in failed[0]["reason"]


def test_settings_are_varied_only_where_they_have_an_effect():
    space = parameters_of(
        {
            "adam_beta1": {"low": 0.8, "high": 0.99},
            "momentum": {"low": 0.5, "high": 0.99},
            "optimizer": {"choices": ["adam", "momentum"]},
            "huber_delta": {"low": 0.5, "high": 2.0},
        },
        "space.yml",
    )
    for optimizer, own in (("adam", "adam_beta1"), ("momentum", "momentum")):
        values = sample(
            space, make_settings(), lambda p, o=optimizer: o if p.name == "optimizer" else p.low
        )
        assert set(values) == {"optimizer", own}
        make_settings(values)  # no setting without effect among them


@pytest.mark.slow
def test_another_study_in_the_folder_is_refused(data, tmp_path):
    tune(tiny_runs.plain_spec(), settings(data), RATES, options(tmp_path, 1))
    with pytest.raises(RunMismatchError, match="space was"):
        tune(
            tiny_runs.plain_spec(), settings(data), (Parameter("learning_rate", 0.1, 0.2),),
            options(tmp_path, 2),
        )  # fmt: skip
    with pytest.raises(RunMismatchError, match="fixed settings was"):
        tune(tiny_runs.plain_spec(), settings(data, train_steps=9), RATES, options(tmp_path, 2))


@pytest.mark.parametrize(
    ("space", "given", "message"),
    [
        (RATES, {"learning_rate": 0.1, "eval_metadata": ("x",)}, "both in the space and given"),
        (RATES, {}, "Give --eval_metadata"),
        (
            (Parameter("model_dir", choices=("a",)),),
            {"eval_metadata": ("x",)},
            "no hyperparameter",
        ),
    ],
)
def test_a_space_that_does_not_fit_is_refused(space, given, message):
    with pytest.raises(ConfigError, match=message):
        check_space(space, make_settings(given))


def test_a_missing_optuna_names_the_extra(data, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ConfigError, match=r"pip install 'tf_image_classification\[tune\]'"):
        tune(tiny_runs.plain_spec(), settings(data), RATES, options(tmp_path, 1))


@pytest.mark.slow
def test_a_second_process_is_refused_and_the_first_goes_on(data, tmp_path, monkeypatch):
    """While a trial is running; without the lock its process would find it ended as a failure."""
    study = (tiny_runs.plain_spec(), settings(data), RATES, options(tmp_path, 2))
    refused = []
    begin = tuning.PruningHook.begin

    def begin_and_ask_again(self, run):
        begin(self, run)
        with pytest.raises(RunMismatchError, match=r"Another process .* is tuning in .*study_dir"):
            tune(*study)
        refused.append(run.step)

    monkeypatch.setattr(tuning.PruningHook, "begin", begin_and_ask_again)
    tune(*study)
    assert refused == [0, 0]
    assert [trial["state"] for trial in trials_of(tmp_path)] == ["complete", "complete"]


@pytest.mark.slow
def test_a_study_in_which_every_trial_fails_says_why(data, tmp_path):
    made = settings(data).replace(optimizer="sgd")
    rates = (Parameter("learning_rate", choices=(1e30, 1e31)),)
    for _ in range(2):  # also when it is asked again
        with pytest.raises(ConfigError, match="None of the 2 trials.*trial-0000: .*not finite"):
            tune(tiny_runs.plain_spec(), made, rates, options(tmp_path, 2, sampler="grid"))
    assert [trial["state"] for trial in trials_of(tmp_path)] == ["fail", "fail"]


@pytest.mark.slow
def test_a_folder_of_any_name_holds_a_study_and_a_damaged_one_is_told(data, tmp_path):
    folder = tmp_path / "a study? 100% #1 ä"
    study = (tiny_runs.plain_spec(), settings(data, train_steps=2, eval_every_steps=2), RATES)
    best = tune(*study, options(folder, 1))
    assert {"study.db", "best.yml"} <= {path.name for path in folder.iterdir()}
    assert tune(*study, options(folder, 1)) == best
    (folder / "study.db").write_bytes(b"no database" * 1000)
    with pytest.raises(DataError, match="study.db cannot be read as a study"):
        tune(*study, options(folder, 1))
    with pytest.raises(ConfigError, match="a study needs a local folder"):
        tune(*study, options("gs://bucket/study", 1))


def test_a_grid_needs_choices(data, tmp_path):
    with pytest.raises(ConfigError, match="A grid needs choices"):
        tune(tiny_runs.plain_spec(), settings(data), RATES, options(tmp_path, 2, sampler="grid"))


@pytest.mark.slow
def test_the_verb_tunes_and_says_where_the_result_is(data, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text("from tiny_runs import TinySpec\n")
    (tmp_path / "space.yml").write_text("learning_rate: {low: 0.001, high: 0.1, log: true}\n")
    line = ["--spec", "mine.py:TinySpec", "--space", "space.yml", "--trials", "1"]
    line += ["--train_metadata", data["train"], "--eval_metadata", data["evaluation"]]
    line += ["--image_size", "8", "--batch_size", "6", "--train_steps", "2", "--noprogress"]
    assert tune_verb.main([*line, "--cache_dir", str(tmp_path / "cache")]) == 0
    assert "1 trials, 1 complete" in capsys.readouterr().out
    best = yaml.safe_load((tmp_path / "study" / "best.yml").read_text())
    assert best["train_steps"] == 2 and "learning_rate" in best


def write_pictures(folder):
    """Class folders of noise with a stripe, as someone without a spec has them."""
    random = np.random.RandomState(0)
    for number in range(12):
        for name, stripe in (("cat", 0), ("dog", 16)):
            pixels = random.randint(0, 100, [32, 32, 3], np.uint8)
            pixels[:, stripe : stripe + 16] += 120
            (folder / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")


@pytest.mark.slow
def test_the_verb_tunes_a_ready_network_and_goes_on_after_ctrl_c(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_pictures(tmp_path / "pets")
    write_pictures(tmp_path / "held out")
    (tmp_path / "space.yml").write_text(
        "backbone: {choices: [mobilenet_v1_025]}\ndropout: {choices: [0.3]}\n"
    )
    line = ["--space", "space.yml", "--trials", "1", "--sampler=grid", "--checkpoint_path", "none"]
    line += ["--train_metadata", "pets", "--eval_metadata", "held out", "--noinspect"]
    line += ["--image_size", "32", "--batch_size", "6", "--train_steps", "2", "--noprogress"]
    line += ["--recipe", "none", "--noexport_saved_model", "--cache_dir", str(tmp_path / "cache")]
    begin = tuning.PruningHook.begin
    began = []

    def begin_and_interrupt(self, run):
        begin(self, run)
        began.append(run.model_dir)
        if len(began) == 1:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(tuning.PruningHook, "begin", begin_and_interrupt)
    with pytest.raises(SystemExit) as end:
        tune_verb.main(line)
    assert end.value.code == RunInterrupted.exit_code
    assert "Traceback" not in capsys.readouterr().err
    assert tune_verb.main(line) == 0
    assert "1 trials, 1 complete" in capsys.readouterr().out
    assert [os.path.basename(path) for path in began] == ["trial-0000", "trial-0000"]
    record = json.loads((tmp_path / "study" / "trial-0000" / "run.json").read_text())
    assert record["settings"]["backbone"] == "mobilenet_v1_025"
    assert record["settings"]["dropout"] == 0.3
    assert record["labels"][0]["class_names"] == ["cat", "dog"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "missing: --space, --trials"),
        (["--space", "s", "--trials", "inf"], "--trials is 'inf', expected a whole number"),
        (["--space", "s", "--trials", "nan"], "--trials is 'nan'"),
        (["--space", "s", "--trials", "1", "--timeout_secs", "inf"], "--timeout_secs is inf"),
        (["--space", "{space}", "--trials", "1"], "A trial needs an evaluation set"),
        (
            ["--space", "{space}", "--trials", "1", "--spec", "a:B", "--backbone", "resnet50"],
            "Give either a spec or a backbone",
        ),
        (["--spec", "a:B", "--space", "s", "--trials", "0"], "--trials is 0"),
        (
            ["--spec", "a:B", "--space", "s", "--trials", "1", "--sampler", "tpf"],
            "Did you mean tpe",
        ),
        (["--spec", "a:B", "--space", "no.yml", "--trials", "1"], "no.yml cannot be read"),
    ],
)
def test_a_wrong_line_is_explained(arguments, message, tmp_path, capsys):
    (tmp_path / "space.yml").write_text("learning_rate: {low: 0.001, high: 0.1}\n")
    with pytest.raises(SystemExit):
        tune_verb.main([word.format(space=tmp_path / "space.yml") for word in arguments])
    assert message in capsys.readouterr().err
