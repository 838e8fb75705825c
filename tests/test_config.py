"""Settings: every rule that refuses one, every layer that gives one, and that each one acts."""

import ast
from pathlib import Path

import hypothesis
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

import tf_image_classification
from tf_image_classification.config import ALIASES, OPTIONS, command_line, make_settings
from tf_image_classification.errors import ConfigError

PACKAGE = Path(tf_image_classification.__file__).parent
DATA = {"train_metadata": ["t"], "eval_metadata": ["e"]}


def refused(given_values, **layers):
    with pytest.raises(ConfigError) as caught:
        make_settings(given_values, **layers)
    return str(caught.value)


def test_an_unknown_setting_is_refused_with_the_nearest_names():
    message = refused({"bach_size": 3})
    assert "'bach_size'" in message and "batch_size" in message
    assert "settings.yml" in refused({}, file={"epohcs": 1}, file_path="settings.yml")
    assert "Use --early_stopping_patience." in refused({"patience": 5})
    assert "Known: " in refused({"zzzzzzzz": 3})
    assert "Unknown setting 3" in refused({}, file={3: 4})
    with pytest.raises(ConfigError, match="batch_size"):
        make_settings().replace(bach_size=3)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("batch_size", "32", "a whole number"),
        ("batch_size", 32.0, "a whole number"),
        ("batch_size", True, "a whole number"),
        ("batch_size", None, "a whole number"),
        ("batch_size", 0, "at least 1"),
        ("learning_rate", "fast", "a number"),
        ("learning_rate", float("nan"), "finite"),
        ("learning_rate", float("inf"), "finite"),
        ("label_smoothing", 1.0, "from 0 to 0.999"),
        ("moving_average_decay", -0.1, "from 0 to"),
        ("debug", "yes", "true or false"),
        ("debug", 1, "true or false"),
        ("model_dir", 3, "a text"),
        ("train_metadata", 3, "a list"),
        ("train_metadata", {"a": 1}, "a list"),
        ("seed", 2**31, "from 0 to"),
        ("keep_checkpoint_max", -2, "at least -1"),
        ("optimizer", "adm", "Did you mean adam"),
        ("precision", "float16", "mixed_float16"),
        ("ftrl_learning_rate_power", 0.5, "a number"),
    ],
)
def test_a_value_of_the_wrong_type_or_range_is_refused_and_says_what_is_expected(
    name, value, expected
):
    message = refused({name: value})
    assert message.startswith((f"{name} ", f"{name}:"))
    assert expected in message


def test_numbers_that_yaml_reads_as_texts_are_numbers():
    assert make_settings(file={"learning_rate": "1e-3"}).schedule.learning_rate == 1e-3
    assert make_settings({"learning_rate": 1}).schedule.learning_rate == 1.0


def test_one_text_is_a_list_and_a_name_of_a_file_may_hold_commas():
    assert make_settings({"trainable_scopes": "a, b"}).model.trainable_scopes == ("a", "b")
    assert make_settings({"train_metadata": "a,b.csv"}).data.train_metadata == ("a,b.csv",)


def test_two_settings_that_exclude_each_other_are_refused():
    for option in OPTIONS.values():
        if option.excludes:
            value = True if option.kind is bool else 5
            values = {option.name: value, option.excludes: value, "eval_metadata": ["e"]}
            assert f"{option.name} (argument) and {option.excludes}" in refused(values)
    assert "gradient_clip" in refused({"gradient_clip_norm": 1.0, "gradient_clip_value": 1.0})


def test_of_two_that_exclude_each_other_the_later_layer_decides():
    settings = make_settings(file={"epochs": 3}, file_path="f.yml", flags={"train_steps": 7})
    assert (settings.training.epochs, settings.training.train_steps) == (None, 7)
    settings = make_settings({"epochs": 2.5}, flags={"train_steps": 7})
    assert (settings.training.epochs, settings.training.train_steps) == (2.5, None)
    settings = make_settings(
        file={"eval_throttle_secs": 3, **DATA}, flags={"eval_every_steps": 2}
    ).evaluation
    assert (settings.eval_throttle_secs, settings.eval_every_steps) == (120.0, 2)
    replaced = make_settings({"train_steps": 7}).replace(epochs=1.0)
    assert (replaced.training.epochs, replaced.training.train_steps) == (1.0, None)


def test_accumulation_must_divide_the_batch_and_near_sizes_are_named():
    message = refused({"batch_size": 10, "gradient_accumulation_steps": 4})
    assert "8 and 12" in message


@pytest.mark.parametrize("name", [o.name for o in OPTIONS.values() if o.applies])
def test_a_setting_that_would_have_no_effect_is_refused(name):
    option = OPTIONS[name]
    other, wanted = option.applies
    value = 0.5 if option.default is None else option.default
    for choice in OPTIONS[other].choices:
        values = {other: choice, name: value}
        if OPTIONS[other].group == "backbone_spec":
            values["backbone"] = "mobilenet_v1"
        if choice in wanted:
            make_settings(values)
        else:
            assert f"no effect with {other} = {choice}" in refused(values)


@pytest.mark.parametrize(
    ("given_values", "needed"),
    [
        ({"checkpoint_restore_scopes": ["a"]}, "checkpoint_path"),
        ({"checkpoint_exclude_scopes": ["a"]}, "checkpoint_path"),
        ({"early_stopping_patience": 1}, "eval_metadata"),
        ({"eval_freq": 1}, "eval_metadata"),
        ({"eval_every_steps": 1}, "eval_metadata"),
        ({"eval_throttle_secs": 1.0}, "eval_metadata"),
        ({"best_metric": "loss"}, "eval_metadata"),
        ({"best_mode": "max"}, "best_metric"),
        ({"output_cm_folder": "f"}, "eval_metadata"),
    ],
)
def test_a_setting_that_lacks_what_it_acts_on_is_refused(given_values, needed):
    assert f"no effect without {needed}" in refused(given_values)
    make_settings({"eval_metadata": "there", **given_values, needed: "there"})


def test_flags_go_before_the_file_and_the_file_before_the_defaults():
    settings = make_settings(
        {"seed": 4},
        file={"seed": 2, "batch_size": 5, "image_size": 9},
        file_path="f.yml",
        flags={"seed": 3, "batch_size": 6},
    )
    assert (settings.run.seed, settings.data.batch_size, settings.data.image_size) == (4, 6, 9)
    assert [settings.origin(n) for n in ("seed", "batch_size", "image_size", "debug")] == [
        "argument",
        "flag",
        "f.yml",
        "default",
    ]


def test_an_alias_is_the_setting_itself():
    assert ALIASES == {"warm_start_ckpt": "checkpoint_path", "from": "from_model"}
    assert make_settings({"warm_start_ckpt": "x"}).model.checkpoint_path == "x"
    assert "two names" in refused({"warm_start_ckpt": "x", "checkpoint_path": "y"})
    assert make_settings().replace(warm_start_ckpt="x").model.checkpoint_path == "x"


def _values(option):
    if option.choices:
        return st.sampled_from(option.choices)
    if option.kind is bool:
        return st.booleans()
    low, high = option.minimum, option.maximum
    if option.kind is int:
        return st.integers(int(low), int(high if high is not None else 10**6))
    if option.kind is float:
        return st.floats(low, high, allow_nan=False, allow_infinity=False)
    text = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1)
    if option.kind is tuple:
        return st.lists(text, max_size=3).map(tuple)
    return text


@hypothesis.settings(deadline=None)
@given(
    st.sets(st.sampled_from(sorted(OPTIONS)), max_size=12).flatmap(
        lambda names: st.fixed_dictionaries({name: _values(OPTIONS[name]) for name in names})
    )
)
def test_printed_settings_read_back_as_the_same_settings(values):
    try:
        settings = make_settings(values)
    except ConfigError:
        return
    read = yaml.safe_load(command_line.settings_text(settings)) or {}
    assert make_settings(file=read).values() == settings.values()
    assert make_settings(file=read).origins.keys() == settings.origins.keys()


def test_each_group_is_frozen():
    with pytest.raises(AttributeError):
        make_settings().data.batch_size = 3


# Where an option may be read without that being use of it.
_DECLARATIONS = {"groups.py", "settings.py", "command_line.py"}


def _names_read():
    """Attributes that any module reads, but for the modules that only declare options."""
    found = set()
    for path in PACKAGE.rglob("*.py"):
        if path.name in _DECLARATIONS and path.parent in (PACKAGE, PACKAGE / "config"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
                found.add(node.attr)
    return found


# Each option, with a test that fails when it does nothing: file and function, or file alone where a
# whole file is about it.
READY_PREPROCESSING = "ready::test_augmentation_dropout_and_eval_crop_reach_the_images"
BEHAVIOUR = {
    "model_dir": "contract/test_contract.py",
    "evaluate": "front::test_evaluate_uses_the_whole_set_and_trains_nothing",
    "plan": "workflows/test_plan.py",
    "seed": "front::test_a_setting_changes_the_trained_weights",
    "debug": "front::test_debug_keeps_the_order_of_the_files",
    "deterministic": "front::test_deterministic_switches_exact_operations_on",
    "allow_changes": "front::test_another_setting_needs_leave_to_resume",
    "strategy": "front::test_strategy_chooses_the_devices",
    "cluster_timeout_secs": "workers::test_workers_that_do_not_start_are_named",
    "progress": "front::test_a_list_of_ready_made_hooks_follows_the_settings",
    "train_metadata": "contract/test_contract.py",
    "eval_metadata": "contract/test_contract.py",
    "labels": "contract/test_contract.py",
    "batch_size": "front::test_a_setting_changes_the_trained_weights",
    "image_size": "front::test_image_size_reaches_the_preprocessing",
    "input_mode": "front::test_a_setting_changes_the_trained_weights",
    "data_service": "dataset/test_data_service.py::test_a_training_reads_from_the_service",
    "stream_block": "front::test_a_setting_changes_the_trained_weights",
    "image_feature": "front::test_features_under_other_names_are_found",
    "label_features": "front::test_features_under_other_names_are_found",
    "inspect": "data_check::test_inspect_refuses_an_evaluation_of_known_images",
    "on_bad_image": "front::test_a_bad_image_ends_the_run_or_is_skipped_and_listed",
    "max_image_pixels": "front::test_an_image_with_too_many_pixels_is_bad",
    "png16_range": "png16_range::test_predictions_and_exports_use_the_stored_range",
    "cache_dir": "front::test_cache_dir_holds_the_unpacked_records",
    "checkpoint_path": "contract/test_contract.py",
    "checkpoint_restore_scopes": "front::test_scopes_choose_what_is_loaded",
    "checkpoint_exclude_scopes": "front::test_scopes_choose_what_is_loaded",
    "checkpoint_averages": "checkpoints/test_slim_names.py",
    "head_phase": "ready::test_fitted_outputs_predict_before_the_first_step",
    "layer_decay": "ready::test_layers_near_the_image_change_less",
    "freeze_layers": "front::test_a_setting_changes_the_trained_weights",
    "freeze_batch_norm": "ready::test_frozen_batch_norm_stays_as_it_was",
    "batch_norm_momentum": "workflows/setup/test_batch_norm.py",
    "backbone": "ready::test_a_folder_and_a_checkpoint_are_enough",
    "recipe": "ready::test_a_folder_and_a_checkpoint_are_enough",
    "augmentation": READY_PREPROCESSING,
    "dropout": READY_PREPROCESSING,
    "crop_area": "ready::test_crop_area_is_the_least_part_that_is_seen",
    "eval_crop": READY_PREPROCESSING,
    "eval_stretch": READY_PREPROCESSING,
    "pixel_scaling": "backbones/test_torch_weights.py::test_pixel_scaling_normalizes_the_pixels",
    "label_columns": "ready::test_label_columns_and_label_kinds_say_what_a_csv_cannot",
    "label_kinds": "ready::test_label_columns_and_label_kinds_say_what_a_csv_cannot",
    "task_weights": "workflows/test_label_kinds.py",
    "eval_split": "workflows/setup/test_held_out.py",
    "group_column": "workflows/setup/test_held_out.py",
    "groups": "workflows/setup/test_held_out.py",
    "balanced_sampling": "workflows/test_label_kinds.py",
    "test_time_augmentation": "workflows/test_label_kinds.py",
    "trainable_scopes": "front::test_a_setting_changes_the_trained_weights",
    "moving_average_decay": "front::test_a_setting_changes_the_evaluated_loss",
    "sync_batch_norm": "workers::test_synchronised_batch_norm_makes_two_workers_train_as_one",
    "precision": "front::test_a_setting_changes_the_trained_weights",
    "train_steps": "front::test_train_steps_and_epochs_are_the_length_of_the_run",
    "epochs": "front::test_train_steps_and_epochs_are_the_length_of_the_run",
    "gradient_accumulation_steps": "front::test_accumulation_computes_in_parts",
    "steps_per_call": "front::test_steps_per_call_are_steps_between_hooks",
    "jit_compile": "front::test_jit_compile_is_on_off_or_chosen_by_device",
    "gradient_clip_norm": "front::test_a_setting_changes_the_trained_weights",
    "gradient_clip_value": "front::test_a_setting_changes_the_trained_weights",
    "label_smoothing": "front::test_a_setting_changes_the_trained_weights",
    "mixup_alpha": "front::test_a_setting_changes_the_trained_weights",
    "cutmix_alpha": "front::test_a_setting_changes_the_trained_weights",
    "class_weights": "training/test_mixing.py::test_balanced_classes_weigh_alike",
    "teacher": "workflows/setup/test_teachers.py",
    "distillation_temperature": "workflows/setup/test_teachers.py",
    "distillation_weight": "workflows/setup/test_teachers.py",
    "sam_rho": "training/test_sharpness.py",
    "loss": "optim/test_long_tail_losses.py",
    "focal_gamma": "optim/test_long_tail_losses.py",
    "asymmetric_gamma_pos": "optim/test_long_tail_losses.py",
    "asymmetric_gamma_neg": "optim/test_long_tail_losses.py",
    "asymmetric_clip": "optim/test_long_tail_losses.py",
    "logit_adjustment_tau": "optim/test_long_tail_losses.py",
    "regression_loss": "evaluation/test_loop.py",
    "huber_delta": "evaluation/test_loop.py",
    "early_stopping_patience": "front::test_no_progress_ends_the_run_early",
    "save_summary_steps": "front::test_a_list_of_ready_made_hooks_follows_the_settings",
    "save_checkpoints_steps": "front::test_checkpoints_come_when_asked_and_so_many_stay",
    "save_checkpoints_secs": "front::test_checkpoints_come_when_asked_and_so_many_stay",
    "keep_checkpoint_max": "front::test_checkpoints_come_when_asked_and_so_many_stay",
    "export_saved_model": "front::test_export_can_be_left_out",
    "export_dir": "front::test_exports_and_logs_go_where_a_platform_wants_them",
    "tensorboard_dir": "front::test_exports_and_logs_go_where_a_platform_wants_them",
    "slice_column": "workflows/setup/test_slices.py",
    "trackers": "hooks/test_trackers.py",
    "verbose": "system/test_quiet.py",
    "eval_freq": "evaluation/test_loop.py",
    "eval_throttle_secs": "front::test_evaluations_come_by_steps_or_by_the_clock",
    "eval_every_steps": "front::test_evaluations_come_by_steps_or_by_the_clock",
    "evaluator": "workers::test_the_evaluator_evaluates_every_checkpoint_and_keeps_the_best",
    "best_metric": "front::test_the_best_checkpoint_is_chosen_by_metric_and_mode",
    "best_mode": "front::test_the_best_checkpoint_is_chosen_by_metric_and_mode",
    "output_cm_folder": "evaluation/test_loop.py",
    "unknown_rate": "workflows/test_unknown_pictures.py",
    "unknown_examples": "workflows/test_unknown_pictures.py",
    "from_model": "workflows/setup/test_earlier_model.py",
} | {
    name: f"optim/test_{option.group}s.py"
    for name, option in OPTIONS.items()
    if option.group in ("optimizer", "schedule")
}


def test_every_setting_is_read_somewhere_behind_the_command_line():
    assert set(OPTIONS) - _names_read() == set()


_SHORT = {
    "front": "test_train_estimator.py",
    "workers": "workflows/test_several_workers.py",
    "ready": "workflows/setup/test_backbone_spec.py",
    "png16_range": "workflows/setup/test_png16_range.py",
    "data_check": "workflows/setup/test_data_check.py",
}


def test_every_setting_has_a_test_of_what_it_does():
    assert set(BEHAVIOUR) == set(OPTIONS)
    here = Path(__file__).parent
    for name, place in BEHAVIOUR.items():
        path, _, function = place.partition("::")
        path = _SHORT.get(path, path)
        text = (here / path).read_text()
        assert f"def {function}(" in text if function else text, (name, place)
        assert name in text, f"{place} does not mention {name}"
