"""The numbers of a run elsewhere, and the same place after a restart."""

import json
import pathlib

import pytest

from hooks.fake_run import FakeEvaluation, FakeRun, go_on, walk
from tf_image_classification import make_settings
from tf_image_classification.errors import ConfigError
from tf_image_classification.hooks import Every, MlflowHook, WandbHook, tracker_hook
from tf_image_classification.workflows.setup.context import make_context
from tf_image_classification.workflows.setup.default_hooks import all_hooks
from tf_image_classification.workflows.setup.run_data import Data


@pytest.mark.slow
def test_mlflow_gets_settings_losses_and_evaluations_and_goes_on(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    run = FakeRun(tmp_path / "m")
    hook = MlflowHook(Every(steps=2))
    walk(hook, run, to=4)
    hook.after_evaluation(run, FakeEvaluation(accuracy=0.5))
    hook.on_stop(run, "signal")
    resumed = MlflowHook(Every(steps=2))
    resumed.load_state(json.loads(json.dumps(hook.state())))
    resumed.begin(run)
    go_on(resumed, run, to=6)
    resumed.after_evaluation(run, FakeEvaluation(accuracy=0.75))
    resumed.end(run)
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{tmp_path}/m/mlflow/mlflow.db")
    found = client.get_run(hook.state()["id"])
    assert found.info.status == "FINISHED" and found.data.params["batch_size"] == "64"
    history = client.get_metric_history(found.info.run_id, "eval_accuracy")
    assert [(one.step, one.value) for one in history] == [(4, 0.5), (6, 0.75)]
    assert [one.step for one in client.get_metric_history(found.info.run_id, "loss")] == [2, 4, 6]


@pytest.mark.slow
def test_wandb_writes_offline_below_the_model_folder(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    run = FakeRun(tmp_path / "m")
    hook = WandbHook(Every(steps=2))
    walk(hook, run, to=4)
    hook.after_evaluation(run, FakeEvaluation(accuracy=0.5))
    hook.close()
    wandb.teardown()  # its own process writes the file's end after the run is finished
    written = list(pathlib.Path(tmp_path, "m", "wandb").rglob("*.wandb"))
    assert len(written) == 1 and hook.state()["id"] in written[0].name
    assert b"eval_accuracy" in written[0].read_bytes()


def test_the_setting_brings_the_hooks(tmp_path):
    settings = make_settings({"model_dir": str(tmp_path), "trackers": ("mlflow", "wandb")})
    hooks = all_hooks(make_context(None, settings), Data(None, None, None))
    assert [type(hook) for hook in hooks if type(hook) in (MlflowHook, WandbHook)] == [
        MlflowHook,
        WandbHook,
    ]


def test_unknown_trackers_and_missing_packages_are_named(tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="mlflow or wandb"):
        tracker_hook("excel", Every(steps=1))
    monkeypatch.setitem(__import__("sys").modules, "mlflow", None)
    with pytest.raises(ConfigError, match=r"\[mlflow\]"):
        tracker_hook("mlflow", Every(steps=1)).begin(FakeRun(tmp_path))
