"""Through the front door: every setting does what its help says."""

import json
import os
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_image_classification import hooks, make_settings, train_estimator
from tf_image_classification.checkpoints.store import CheckpointStore
from tf_image_classification.config import OPTIONS
from tf_image_classification.distributed import devices
from tf_image_classification.errors import (
    BadImageError,
    CheckpointError,
    ConfigError,
    DataError,
    RunMismatchError,
)
from tf_image_classification.export.saved_model import exported_step
from tf_image_classification.model_folder import ModelFolder
from tf_image_classification.system.files import read_json_lines
from tf_image_classification.system.process_exit import ends_the_process
from tf_image_classification.workflows.setup import default_hooks, environment, run_data
from tf_image_classification.workflows.setup.context import make_context
from tf_image_classification.workflows.setup.environment import prepare_tensorflow
from tiny_runs import (
    StopAt,
    TinySpec,
    evaluations,
    last_checkpoint,
    plain_spec,
    run,
    tiny_settings,
)
from tiny_runs import write_records as write_tiny_records


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return write_tiny_records(tmp_path_factory.mktemp("records"))


@pytest.fixture(scope="module")
def baseline_folder(records, tmp_path_factory):
    """A run of four steps."""
    folder = tmp_path_factory.mktemp("baseline") / "model"
    run(plain_spec(), folder, records, records, train_steps=4)
    return folder


@pytest.fixture(scope="module")
def baseline(baseline_folder):
    return last_checkpoint(baseline_folder)


@pytest.fixture
def trained(baseline_folder, tmp_path):
    """A copy of its folder."""
    return shutil.copytree(baseline_folder, tmp_path / "model")


def steps_of(folder):
    return CheckpointStore(os.path.join(str(folder), "checkpoints"), -1).steps()


def weights(saved):
    return {n: v for n, v in saved.tensors.items() if n.startswith("model/")}


def are_equal(a, b):
    return all(np.array_equal(value, weights(b)[name]) for name, value in weights(a).items())


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 1},
        {"batch_size": 8},
        {"input_mode": "streaming"},
        {"input_mode": "streaming", "stream_block": 7},
        {"trainable_scopes": ("logits",)},
        {"freeze_layers": 0.9},
        {"precision": "mixed_bfloat16"},
        {"gradient_clip_norm": 1e-3},
        {"gradient_clip_value": 1e-4},
        {"label_smoothing": 0.3},
        {"mixup_alpha": 0.5},
        {"cutmix_alpha": 1.0},
        {"mixup_alpha": 0.5, "cutmix_alpha": 1.0},
        {"weight_decay": 0.9},
        {"learning_rate": 0.02},
        {"learning_rate_decay_type": "fixed"},
        {"end_learning_rate": 0.005},
        {"warmup_steps": 2},
    ],
    ids=lambda changes: "+".join(changes),
)
def test_a_setting_changes_the_trained_weights(records, baseline, tmp_path, changes):
    changed = run(plain_spec(), tmp_path / "model", records, records, train_steps=4, **changes)
    assert not are_equal(baseline, changed)


@pytest.mark.slow
def test_the_same_settings_give_the_same_bits(records, baseline, tmp_path):
    assert are_equal(
        baseline, run(plain_spec(), tmp_path / "model", records, records, train_steps=4)
    )


@pytest.mark.slow
def test_a_setting_changes_the_evaluated_loss(records, tmp_path):
    raw = run(plain_spec(), tmp_path / "raw", records, records, train_steps=4)
    averaged = run(
        plain_spec(), tmp_path / "averaged", records, records, train_steps=4,
        moving_average_decay=0.9,
    )  # fmt: skip
    assert are_equal(raw, averaged)
    assert any(name.startswith("average/") for name in averaged.tensors)
    losses = [evaluations(tmp_path / name)[-1]["loss"] for name in ("raw", "averaged")]
    assert losses[0] != losses[1]


def test_a_finished_run_leaves_a_folder_that_describes_itself(records, tmp_path):
    """The folder is the one that model_dir names."""
    run(
        TinySpec(), tmp_path / "model", records, records, train_steps=2, export_saved_model=True,
        save_summary_steps=1,
    )  # fmt: skip
    folder = ModelFolder(str(tmp_path / "model"))
    record = folder.read_manifest()
    assert record.settings["train_steps"] == 2 and record.origins["train_steps"] == "argument"
    assert set(record.settings) == set(OPTIONS)
    assert record.schema.labels[0].class_names == ("0", "1", "2")
    written = json.loads((tmp_path / "model" / "run.json").read_text())
    assert {"tf_image_classification", "python", "keras", "numpy"} <= set(written["versions"])
    assert evaluations(folder.path)[-1]["num_examples"] == 40
    for path in (folder.checkpoints, folder.best, folder.tensorboard, folder.saved_model):
        assert os.listdir(path)


def test_evaluate_uses_the_whole_set_and_trains_nothing(records, baseline, trained):
    settings = tiny_settings(trained, records, records, evaluate=True, eval_freq=1)
    result = train_estimator.train(plain_spec(), settings)
    assert result.step == 4
    assert result.metrics["loss"] == pytest.approx(evaluations(trained)[-1]["loss"])
    assert are_equal(baseline, last_checkpoint(trained))


@pytest.mark.slow
def test_a_later_evaluation_is_kept_with_its_data(records, trained, tmp_path):
    other = write_tiny_records(tmp_path / "other", seed=3, count=25)
    for data in (other, records):
        train_estimator.evaluate(plain_spec(), tiny_settings(trained, records, data))
    lines = read_json_lines(str(trained / "evaluations.jsonl"))
    assert [line["num_examples"] for line in lines] == [25, 40]
    assert [line["eval_metadata"] for line in lines] == [[other], [records]]
    assert lines[0]["eval_data"] != lines[1]["eval_data"]
    assert len(evaluations(trained)) == 1


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [7, 5, 1])
def test_every_example_is_evaluated_once_on_any_number_of_devices(records, trained, batch_size):
    found = [
        train_estimator.evaluate(
            plain_spec(),
            tiny_settings(trained, records, records, strategy=strategy, batch_size=batch_size),
        ).metrics
        for strategy in ("one_device", "mirrored")
    ]
    assert found[1] == pytest.approx(found[0], rel=1e-5)
    lines = read_json_lines(str(trained / "evaluations.jsonl"))
    assert [line["num_examples"] for line in lines] == [40, 40]


def test_an_evaluation_keeps_to_the_classes_of_the_model(records, tmp_path):
    named = plain_spec(names=("red", "green", "blue"))
    run(named, tmp_path / "model", records, train_steps=1)
    (tmp_path / "names").write_text("blue\ngreen\nred\n")
    settings = tiny_settings(
        tmp_path / "model", records, records, labels=(str(tmp_path / "names"),)
    )
    with pytest.raises(RunMismatchError, match="knows the classes .* red, green, blue, but here"):
        train_estimator.evaluate(plain_spec(), settings)


@pytest.mark.slow
def test_an_evaluation_may_have_a_batch_that_the_training_could_not_split(records, tmp_path):
    run(plain_spec(), tmp_path / "model", records, train_steps=1, gradient_accumulation_steps=3)
    bare = make_settings(
        {"model_dir": str(tmp_path / "model"), "eval_metadata": (records,), "batch_size": 7}
    )
    assert train_estimator.evaluate(plain_spec(), bare).step == 1


@pytest.mark.exhaustive
def test_what_was_trained_is_kept_when_the_evaluation_fails(records, tmp_path):
    bad = write_three_images(tmp_path, b"no image")
    with pytest.raises(BadImageError, match="--on_bad_image skip"):
        run(plain_spec(), tmp_path / "m", records, bad, train_steps=6)
    assert last_checkpoint(tmp_path / "m").step == 6
    assert not evaluations(tmp_path / "m")
    run(plain_spec(), tmp_path / "m", records, bad, train_steps=6, on_bad_image="skip")
    assert [(e["step"], e["num_examples"]) for e in evaluations(tmp_path / "m")] == [(6, 2)]


def write_three_images(folder, last):
    image = tf.io.encode_png(np.zeros([8, 8, 3], np.uint8)).numpy()
    lines = ["URIs,kind"]
    for i, data in enumerate((image, image, last)):
        (folder / f"{i}.png").write_bytes(data)
        lines.append(f"{i}.png,{i}")
    (folder / "eval.csv").write_text("\n".join(lines))
    return str(folder / "eval.csv")


def test_a_folder_for_pictures_that_cannot_be_written_is_found_before_training(records, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match="cannot be written"):
        run(plain_spec(), tmp_path / "m", records, records, train_steps=3,
            output_cm_folder=str(tmp_path / "file" / "x"))  # fmt: skip
    assert not steps_of(tmp_path / "m")


@pytest.mark.slow
def test_a_run_that_stopped_early_goes_on_when_asked_to(records, tmp_path, capsys):
    common = {"eval_every_steps": 1, "learning_rate": 0.0}  # nothing gets better
    run(plain_spec(), tmp_path / "m", records, records, train_steps=9,
        early_stopping_patience=2, **common)  # fmt: skip
    assert steps_of(tmp_path / "m")[-1] == 3
    told = capsys.readouterr().out
    assert "stopped:       at step 3 of 9, because loss has not improved on" in told
    assert "another --early_stopping_patience to go on" in told
    run(plain_spec(), tmp_path / "m", records, records, train_steps=9,
        early_stopping_patience=2, **common)  # fmt: skip
    assert steps_of(tmp_path / "m")[-1] == 3
    run(plain_spec(), tmp_path / "m", records, records, train_steps=9, **common)
    assert steps_of(tmp_path / "m")[-1] == 9


class Killed(hooks.Hook):
    def after_step(self, run):
        if run.step == 5:
            raise KeyboardInterrupt


@pytest.mark.slow
def test_what_a_run_was_asked_is_known_after_it_is_killed(records, tmp_path):
    common = {"eval_every_steps": 1, "learning_rate": 0.0, "train_steps": 9}
    run(plain_spec(), tmp_path / "m", records, records, early_stopping_patience=2, **common)
    with pytest.raises(KeyboardInterrupt):  # before another checkpoint
        run(plain_spec(), tmp_path / "m", records, records, hooks=[Killed()], **common)
    assert steps_of(tmp_path / "m")[-1] == 3
    run(plain_spec(), tmp_path / "m", records, records, **common)
    assert steps_of(tmp_path / "m")[-1] == 9


def first_ids(records, tmp_path, **changes):
    settings = tiny_settings(tmp_path / "model", records, **changes)
    data = run_data.read_data(make_context(plain_spec(), settings))
    return next(iter(data.train.training_batches(0))).ids.numpy().tolist()


def test_debug_keeps_the_order_of_the_files(records, tmp_path):
    assert first_ids(records, tmp_path, debug=True) == [0, 1, 2, 3, 4, 5]
    assert first_ids(records, tmp_path) != [0, 1, 2, 3, 4, 5]


def test_deterministic_switches_exact_operations_on(monkeypatch):
    called = []
    monkeypatch.setattr(
        tf.config.experimental, "enable_op_determinism", lambda: called.append(True)
    )
    prepare_tensorflow(make_settings({"deterministic": False}))
    assert not called
    prepare_tensorflow(make_settings())
    assert called


@pytest.mark.parametrize(
    ("machine", "given", "with_onednn", "expected"),
    [
        ("x86_64", None, True, "1"),
        ("x86_64", None, False, None),
        ("x86_64", "0", True, "0"),
        ("arm64", None, True, None),
    ],
)
def test_onednn_is_on_where_it_is_wanted_unless_the_environment_decides(
    monkeypatch, machine, given, with_onednn, expected
):
    monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS", raising=False)
    if given is not None:
        monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", given)
    monkeypatch.setattr(environment.platform, "machine", lambda: machine)
    prepare_tensorflow(make_settings(), with_onednn=with_onednn)
    assert os.environ.get("TF_ENABLE_ONEDNN_OPTS") == expected


def test_another_setting_needs_leave_to_resume(records, trained, capsys):
    with pytest.raises(RunMismatchError, match=r"learning_rate: 0\.01 there, 0\.5 now"):
        run(plain_spec(), trained, records, records, train_steps=5, learning_rate=0.5)
    changed = {"train_steps": 5, "learning_rate": 0.5, "allow_changes": True}
    assert run(plain_spec(), trained, records, records, **changed).step == 5
    assert "allowed change: learning_rate" in capsys.readouterr().out


def test_strategy_chooses_the_devices():
    assert devices.make_strategy("one_device").num_replicas_in_sync == 1
    assert devices.make_strategy("auto").num_replicas_in_sync == 1  # the CPUs of a test
    assert devices.make_strategy("mirrored").num_replicas_in_sync == 2


def test_a_list_of_ready_made_hooks_follows_the_settings(records, tmp_path):
    def names(**changes):
        settings = tiny_settings(tmp_path / "model", records, records, **changes)
        data = run_data.read_data(make_context(plain_spec(), settings))
        made = default_hooks.all_hooks(make_context(plain_spec(), settings), data)
        return {type(hook).__name__ for hook in made}

    assert "ProgressHook" in names(progress=True) and "ProgressHook" not in names(progress=False)
    assert "SummaryHook" in names(save_summary_steps=5)
    assert "SummaryHook" not in names(save_summary_steps=0)


def test_image_size_reaches_the_preprocessing(records, tmp_path):
    small = run(plain_spec(), tmp_path / "model", records, train_steps=1, image_size=4)
    assert small.tensors["model/hidden/kernel"].shape[0] == 4 * 4 * 3


def test_features_under_other_names_are_found(tmp_path):
    png = tf.io.encode_png(np.zeros([8, 8, 3], np.uint8)).numpy()
    with tf.io.TFRecordWriter(str(tmp_path / "odd.tfrecord")) as writer:
        for number in range(12):
            features = {
                "picture": tf.train.Feature(bytes_list=tf.train.BytesList(value=[png])),
                "truth": tf.train.Feature(int64_list=tf.train.Int64List(value=[number % 3])),
            }
            example = tf.train.Example(features=tf.train.Features(feature=features))
            writer.write(example.SerializeToString())
    names = {"image_feature": "picture", "label_features": ("kind=truth",)}
    path = str(tmp_path / "odd.tfrecord")
    assert run(plain_spec(), tmp_path / "model", path, train_steps=1, **names).step == 1


@pytest.fixture
def pictures(tmp_path):
    """A CSV of nine pictures, one of which is no picture."""
    lines = ["URIs,labels"]
    for number in range(9):
        png = tf.io.encode_png(np.full([8, 8, 3], 20 * number, np.uint8)).numpy()
        (tmp_path / f"{number}.png").write_bytes(b"nonsense" if number == 4 else png)
        lines.append(f"{number}.png,{number % 3}")
    (tmp_path / "train.csv").write_text("\n".join(lines))
    return str(tmp_path / "train.csv")


@pytest.mark.slow
def test_a_bad_image_ends_the_run_or_is_skipped_and_listed(pictures, tmp_path):
    with pytest.raises(BadImageError, match=r"train\.csv line 6 .*4\.png"):
        run(plain_spec(), tmp_path / "fail", pictures, train_steps=3)
    skipped = run(
        plain_spec(), tmp_path / "skip", pictures, pictures, train_steps=3, on_bad_image="skip"
    )
    assert skipped.step == 3
    (line,) = ModelFolder(str(tmp_path / "skip")).read_bad_images()
    assert "4.png" in line["where"] and line["reason"]
    assert evaluations(tmp_path / "skip")[-1]["num_examples"] == 8


@pytest.mark.slow
def test_an_image_with_too_many_pixels_is_bad(records, tmp_path):
    with pytest.raises(BadImageError, match="pixels"):
        run(plain_spec(), tmp_path / "model", records, train_steps=1, max_image_pixels=63)


def test_cache_dir_holds_the_unpacked_records(records, tmp_path):
    run(plain_spec(), tmp_path / "m", records, train_steps=1, cache_dir=str(tmp_path / "cache"))
    assert any(name.endswith(".records") for name in os.listdir(tmp_path / "cache"))


@pytest.mark.slow
def test_scopes_choose_what_is_loaded(records, tmp_path):
    run(plain_spec(), tmp_path / "first", records, train_steps=3)
    trained = last_checkpoint(tmp_path / "first").tensors

    def start(**scopes):
        folder = tmp_path / "-".join(map(str, scopes.items()))
        source = str(tmp_path / "first")
        run(plain_spec(), folder, records, train_steps=1, checkpoint_path=source, **scopes)
        first = CheckpointStore(str(folder / "checkpoints")).load(0).tensors
        names = ("hidden/kernel", "logits/kernel")
        return [np.array_equal(first[f"model/{n}"], trained[f"model/{n}"]) for n in names]

    assert start(seed=5) == [True, True]
    assert start(checkpoint_restore_scopes=("hidden",)) == [True, False]
    assert start(checkpoint_exclude_scopes=("hidden",)) == [False, True]
    with pytest.raises(CheckpointError, match="no variable's name begins with 'nothing'"):
        start(checkpoint_restore_scopes=("nothing",))
    with pytest.raises(CheckpointError, match="The scopes leave out every variable"):
        start(checkpoint_exclude_scopes=("hidden", "logits"))


@pytest.mark.slow
def test_train_steps_and_epochs_are_the_length_of_the_run(records, tmp_path):
    assert run(plain_spec(), tmp_path / "steps", records, train_steps=3).step == 3
    assert (
        run(plain_spec(), tmp_path / "epochs", records, epochs=0.5).step == 4
    )  # 20 examples in batches of 6


@pytest.mark.slow
def test_accumulation_computes_in_parts(records, baseline, tmp_path):
    sizes = []

    class Watching(TinySpec):
        def losses(self, labels, logits):
            sizes.append(int(logits["kind"].shape[0]))

    spec = Watching(noise=0.0, batch_norm=False)
    in_parts = run(spec, tmp_path / "model", records, train_steps=4, gradient_accumulation_steps=3)
    assert 2 in sizes  # batches of 6 in 3 parts
    for name, value in weights(baseline).items():
        np.testing.assert_allclose(weights(in_parts)[name], value, atol=1e-5)
    with pytest.raises(ConfigError, match="Nearest batch sizes: 4 and 8"):
        tiny_settings(tmp_path, records, gradient_accumulation_steps=4)


class Steps(hooks.Hook):
    """Remembers the steps at which it was called, and those of evaluations."""

    def __init__(self):
        self.seen, self.evaluated = [], []

    def after_step(self, run):
        self.seen.append(run.step)

    def after_evaluation(self, run, evaluation):
        self.evaluated.append(run.step)


@pytest.mark.slow
def test_steps_per_call_are_steps_between_hooks(records, baseline, tmp_path):
    seen = Steps()
    several = run(
        plain_spec(), tmp_path / "model", records, hooks=[seen], train_steps=4, steps_per_call=3
    )
    assert seen.seen == [3, 4]
    assert are_equal(several, baseline)


def test_jit_compile_is_on_off_or_chosen_by_device():
    assert devices.uses_xla("on", 1)
    assert not devices.uses_xla("off", 1)
    assert not devices.uses_xla("auto", 1)  # no GPU in a test
    with pytest.raises(ConfigError, match="jit_compile"):
        devices.uses_xla("on", 2)


@pytest.mark.slow
def test_no_progress_ends_the_run_early(records, tmp_path):
    saved = run(
        plain_spec(), tmp_path / "model", records, records, train_steps=30, eval_every_steps=1,
        learning_rate=0.0, early_stopping_patience=2,
    )  # fmt: skip
    assert saved.step == 3


@pytest.mark.slow
def test_checkpoints_come_when_asked_and_so_many_stay(records, tmp_path):
    run(
        plain_spec(), tmp_path / "two", records, train_steps=6, save_checkpoints_steps=2,
        keep_checkpoint_max=2,
    )  # fmt: skip
    assert steps_of(tmp_path / "two") == [4, 6]
    run(
        plain_spec(), tmp_path / "all", records, train_steps=3, save_checkpoints_secs=0.0,
        keep_checkpoint_max=-1,
    )  # fmt: skip
    assert steps_of(tmp_path / "all") == [0, 1, 2, 3]


@pytest.mark.slow
def test_exports_and_logs_go_where_a_platform_wants_them(records, tmp_path):
    wanted = {
        "export_saved_model": True, "export_dir": str(tmp_path / "for_serving"),
        "save_summary_steps": 1, "tensorboard_dir": str(tmp_path / "logs"),
    }  # fmt: skip
    for _ in range(2):  # the second time it is complete, and what is missing is copied again
        run(plain_spec(), tmp_path / "model", records, train_steps=1, **wanted)
        assert exported_step(str(tmp_path / "for_serving")) == 1
        shutil.rmtree(tmp_path / "for_serving")
    assert os.listdir(tmp_path / "logs" / "train")
    assert not (tmp_path / "model" / "tensorboard").exists()


def test_export_can_be_left_out(records, tmp_path):
    run(plain_spec(), tmp_path / "model", records, train_steps=1, export_saved_model=False)
    assert not (tmp_path / "model" / "saved_model").exists()


def test_evaluations_are_planned_by_steps_or_by_the_clock():
    def planned(**given):
        settings = make_settings({"eval_metadata": ("some",), **given})
        every = default_hooks.when_to_evaluate(settings)
        return every.steps, every.secs

    assert planned(eval_every_steps=2) == (2, 0.0)
    assert planned(eval_throttle_secs=0.0) == (0, 1e-9)  # at every step
    assert planned(eval_throttle_secs=60.0) == (0, 60.0)


@pytest.mark.slow
def test_evaluations_come_by_steps_or_by_the_clock(records, tmp_path):
    seen = Steps()
    common = {"train_steps": 5, "hooks": [seen]}
    run(plain_spec(), tmp_path / "steps", records, records, eval_every_steps=2, **common)
    assert seen.evaluated == [2, 4, 5]
    seen.evaluated.clear()
    run(plain_spec(), tmp_path / "clock", records, records, eval_throttle_secs=0.0, **common)
    assert seen.evaluated == [1, 2, 3, 4, 5]
    seen.evaluated.clear()
    run(plain_spec(), tmp_path / "late", records, records, eval_throttle_secs=3600.0, **common)
    assert seen.evaluated == [5]


@pytest.mark.slow
def test_the_best_checkpoint_is_chosen_by_metric_and_mode(records, tmp_path):
    def best_step(name, **changes):
        run(
            plain_spec(), tmp_path / name, records, records, train_steps=4, eval_every_steps=1,
            **changes,
        )  # fmt: skip
        losses = [line["loss"] for line in evaluations(tmp_path / name)]
        (step,) = CheckpointStore(ModelFolder(str(tmp_path / name)).best).steps()
        return step, losses

    step, losses = best_step("least")
    assert step == 1 + int(np.argmin(losses))
    step, losses = best_step("most", best_metric="loss", best_mode="max")
    assert step == 1 + int(np.argmax(losses))
    with pytest.raises(ConfigError, match="no metric 'acuracy'"):
        best_step("wrong", best_metric="acuracy", best_mode="max")


def test_a_second_start_says_that_the_run_is_complete(records, trained, capsys):
    assert run(plain_spec(), trained, records, records, train_steps=4).step == 4
    assert "complete" in capsys.readouterr().out


def test_a_signal_ends_a_program_with_the_status_that_asks_for_a_restart(records, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended, train_estimator.ends_the_process():
        run(plain_spec(), tmp_path / "model", records, train_steps=9, hooks=[StopAt(2)])
    assert ended.value.code == 75
    said = capsys.readouterr().err
    assert "Stopped by SIGTERM at step 2 of 9" in said
    assert "Start the same command again to resume." in said
    assert steps_of(tmp_path / "model")[-1] == 2


def test_errors_end_a_program_with_a_message_and_a_status(capsys):
    with pytest.raises(SystemExit) as ended, ends_the_process():
        raise ConfigError("this is wrong")
    assert ended.value.code == 1
    assert capsys.readouterr().err == "ConfigError: this is wrong\n"


@pytest.mark.slow
def test_layers_are_named_the_same_in_a_second_run(records, tmp_path):
    class Unnamed(TinySpec):
        def get_model_fn(self, checkpoint_path):
            return lambda image_shape, params: keras.Sequential(
                [keras.Input(image_shape), keras.layers.Flatten(), keras.layers.Dense(3)]
            )

    first = run(Unnamed(), tmp_path / "a", records, train_steps=1)
    second = run(Unnamed(), tmp_path / "b", records, train_steps=1)
    assert set(first.tensors) == set(second.tensors)
