"""Real Keras callbacks as hooks, and the iterator hook."""

import csv

import keras
import pytest

from hooks.fake_run import FakeEvaluation, FakeRun, go_on, walk
from tf_image_classification.errors import ConfigError
from tf_image_classification.hooks import IteratorInitializerHook, KerasCallbackHook


def small_model():
    inputs = keras.Input([2])
    return keras.Model(inputs, keras.layers.Dense(1)(inputs))


class Recorder(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.calls = []

    def __getattribute__(self, name):
        if name.startswith("on_"):
            return lambda *args, **kwargs: self.calls.append((name, *args))
        return super().__getattribute__(name)


def test_a_callback_is_called_at_the_moments_that_keras_would():
    callback, run = Recorder(), FakeRun(model=small_model())
    run.steps_per_epoch, run.train_steps = 2.0, 4
    hook = KerasCallbackHook(callback)
    walk(hook, run, to=3)
    hook.after_evaluation(run, FakeEvaluation(accuracy=0.5))
    go_on(hook, run, to=4)
    hook.after_evaluation(run, FakeEvaluation(accuracy=0.75))  # the last one of a run
    hook.end(run)
    assert callback.calls == [
        ("on_train_begin",),
        ("on_epoch_begin", 0),
        ("on_train_batch_begin", 0),
        ("on_train_batch_end", 0, {"loss": 101.0}),
        ("on_train_batch_begin", 1),
        ("on_train_batch_end", 1, {"loss": 102.0}),
        ("on_epoch_end", 0, {"loss": 102.0}),
        ("on_epoch_begin", 1),
        ("on_train_batch_begin", 2),
        ("on_train_batch_end", 2, {"loss": 103.0}),
        ("on_test_begin",),
        ("on_test_end", {"accuracy": 0.5}),
        ("on_train_batch_begin", 3),
        ("on_train_batch_end", 3, {"loss": 104.0}),
        ("on_test_begin",),
        ("on_test_end", {"accuracy": 0.75}),
        ("on_epoch_end", 1, {"loss": 104.0, "val_accuracy": 0.75}),
        ("on_train_end",),
    ]
    assert callback.params == {"steps": 2, "epochs": 2, "verbose": 0}
    assert callback.model is run.model


def test_a_resumed_run_begins_in_the_middle_of_its_epoch_and_the_last_one_may_be_cut():
    callback, run = Recorder(), FakeRun(model=small_model(), step=7, was_resumed=True)
    hook = KerasCallbackHook(callback)
    walk(hook, run, to=8)
    hook.end(run)
    moments = [call[:2] for call in callback.calls if "epoch" in call[0]]
    assert moments == [("on_epoch_begin", 2), ("on_epoch_end", 2)]


def test_a_run_that_is_stopped_ends_no_epoch():
    callback, run = Recorder(), FakeRun(model=small_model())
    hook = KerasCallbackHook(callback)
    walk(hook, run, to=1)
    hook.on_stop(run, "SIGTERM")
    assert callback.calls[-1] == ("on_train_end",)
    assert "on_epoch_end" not in [call[0] for call in callback.calls]


def test_the_tensorboard_callback_of_keras_finds_the_optimizer(tmp_path):
    run_epochs(keras.callbacks.TensorBoard(str(tmp_path)), [3.0, 2.0])
    assert any(path.name.startswith("events") for path in tmp_path.rglob("*"))


def run_epochs(callback, losses):
    """One epoch a value; returns the run."""
    run = FakeRun(model=small_model(), train_steps=len(losses))
    run.steps_per_epoch = 1.0
    hook = KerasCallbackHook(callback)
    hook.begin(run)
    for value in losses:
        hook.after_evaluation(run, FakeEvaluation(loss=value, accuracy=-value))
        go_on(hook, run, to=run.step + 1)
        if run.stopped:
            break
    hook.end(run)
    return run


def test_early_stopping_of_keras_stops_the_run_and_may_restore_the_best_weights():
    callback = keras.callbacks.EarlyStopping("val_loss", patience=2, restore_best_weights=True)
    run = run_epochs(callback, [3.0, 2.0, 2.5, 2.6, 1.0])
    assert run.step == 4
    assert run.stopped == ["EarlyStopping asked for it"]
    assert callback.best == 2.0 and callback.best_epoch == 1


def test_the_csv_logger_of_keras_writes_a_line_an_epoch(tmp_path):
    path = tmp_path / "log.csv"
    run_epochs(keras.callbacks.CSVLogger(str(path)), [3.0, 2.0])
    with open(path) as stream:
        rows = list(csv.DictReader(stream))
    assert [row["epoch"] for row in rows] == ["0", "1"]
    assert [row["val_loss"] for row in rows] == ["3.0", "2.0"]
    assert [row["loss"] for row in rows] == ["101.0", "102.0"]


def test_a_lambda_callback_is_called():
    seen = []
    run_epochs(keras.callbacks.LambdaCallback(on_epoch_end=lambda n, logs: seen.append(n)), [1, 1])
    assert seen == [0, 1]


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras's own
def test_the_model_checkpoint_of_keras_writes_weights(tmp_path):
    path = tmp_path / "best.weights.h5"
    callback = keras.callbacks.ModelCheckpoint(
        str(path), monitor="val_loss", save_best_only=True, save_weights_only=True
    )
    run_epochs(callback, [3.0, 4.0])
    assert path.exists() and callback.best == 3.0


@pytest.mark.parametrize(
    "callback",
    [
        keras.callbacks.ReduceLROnPlateau(),
        keras.callbacks.LearningRateScheduler(lambda epoch: 0.1),
        keras.callbacks.BackupAndRestore("folder"),
        keras.callbacks.SwapEMAWeights(),
    ],
    ids=lambda callback: type(callback).__name__,
)
def test_a_callback_that_would_take_over_what_settings_decide_is_refused(callback):
    with pytest.raises(ConfigError, match=f"{type(callback).__name__}.*--"):
        KerasCallbackHook(callback)


def test_the_iterator_hook_calls_its_function_once_with_the_run():
    seen, run = [], FakeRun()
    hook = IteratorInitializerHook(seen.append)
    walk(hook, run, to=3)
    assert seen == [run]


def test_the_function_of_the_iterator_hook_may_be_set_later_or_not_at_all():
    hook, run = IteratorInitializerHook(), FakeRun()
    hook.begin(run)
    seen = []
    hook.iterator_initializer_func = seen.append
    hook.begin(run)
    assert seen == [run]
