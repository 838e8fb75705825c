"""Every declared option takes effect, or is rejected where it cannot: none is silently ignored."""

import hashlib
import os
import re

import numpy as np
import pytest
import tensorflow as tf

from tf_image_classification.config import OPTIONS, make_settings
from tf_image_classification.errors import TficError
from tf_image_classification.hooks import Hook
from tf_image_classification.labels import Label
from tf_image_classification.system import files
from tiny_runs import SIZE, TinySpec, last_checkpoint, plain_spec, run, write_records

# --- rejected --------------------------------------------------------------------------------

# Options that nothing can keep from acting, with the reason.
ALWAYS = {
    "model_dir": "every run writes a folder",
    "seed": "initial weights are drawn from it",
    "deterministic": "every operation is chosen by it",
    "allow_changes": "a permission; without changes there is nothing to permit",
    "strategy": "every run has devices",
    "progress": "every run has a progress bar, or none",
    "verbose": "every run uses libraries",
    "train_metadata": "every run has examples",
    "eval_metadata": "every run can be evaluated",
    "batch_size": "every run has batches",
    "image_size": "every preprocessing is asked for it",
    "cache_dir": "where caches lie, if there are any",
    "checkpoint_path": "every network can take weights, or nothing fits, which is an error",
    "moving_average_decay": "every network has weights to average",
    "precision": "every network computes",
    "recipe": "every run has settings that were not given",
    "steps_per_call": "every run has steps",
    "jit_compile": "every step is compiled, or not",
    "optimizer": "every run has an update rule",
    "sam_rho": "every update has a gradient",
    "weight_decay": "every update rule takes it",
    "learning_rate": "every update rule takes it",
    "learning_rate_decay_type": "every run has a rate",
    "save_summary_steps": "every run has curves, or none",
}

# What keeps an option from acting: settings that are refused together, by the option.
TOGETHER = {
    "evaluate": ({"evaluate": True, "plan": True}, "exclude each other"),
    "plan": ({"plan": True, "evaluate": True}, "exclude each other"),
    "data_service": ({"data_service": "grpc://a:1"}, "cannot be repeated or resumed exactly"),
    "gradient_accumulation_steps": (
        {"gradient_accumulation_steps": 4, "batch_size": 6}, "does not divide batch_size 6",
    ),
    "keep_checkpoint_max": ({"keep_checkpoint_max": 0}, "a run needs its newest checkpoint"),
    "export_dir": (
        {"export_dir": "e", "export_saved_model": False}, "no effect without export_saved_model",
    ),
    "tensorboard_dir": (
        {"tensorboard_dir": "t", "save_summary_steps": 0}, "no effect without save_summary_steps",
    ),
    "checkpoint_averages": (
        {"checkpoint_averages": True, "checkpoint_path": "imagenet"}, "contain no moving averages",
    ),
    "unknown_rate": (
        {"unknown_rate": 0.1, "export_saved_model": False}, "no effect without export_saved_model",
    ),
    "unknown_examples": (
        {"unknown_examples": ("a",), "unknown_rate": 0.0}, "no effect without unknown_rate",
    ),
    "test_time_augmentation": (
        {"test_time_augmentation": "flip", "export_saved_model": False},
        "no effect without evaluations and without an exported",
    ),
    "class_weights": (
        {"class_weights": "balanced", "balanced_sampling": "kind"}, "class imbalance twice",
    ),
}  # fmt: skip
for name, needed, value in (
    ("checkpoint_restore_scopes", "checkpoint_path", ("a",)),
    ("checkpoint_exclude_scopes", "checkpoint_path", ("a",)),
    ("head_phase", "checkpoint_path", True),
    ("augmentation", "backbone", "flip"),
    ("crop_area", "backbone", 0.5),
    ("dropout", "backbone", 0.5),
    ("eval_crop", "backbone", 0.5),
    ("eval_stretch", "backbone", 2.0),
    ("pixel_scaling", "backbone", "0.5/0.5"),
    ("label_columns", "backbone", ("a",)),
    ("label_kinds", "backbone", ("a=class",)),
    ("early_stopping_patience", "eval_metadata", 2),
    ("eval_freq", "eval_metadata", 2),
    ("eval_every_steps", "eval_metadata", 2),
    ("eval_throttle_secs", "eval_metadata", 2.0),
    ("best_metric", "eval_metadata", "accuracy"),
    ("best_mode", "best_metric", "max"),
    ("slice_column", "eval_metadata", "camera"),
    ("distillation_temperature", "teacher", 4.0),
    ("distillation_weight", "teacher", 0.9),
    ("output_cm_folder", "eval_metadata", "cm"),
):
    TOGETHER[name] = ({name: value}, f"{name} .* has no effect without {needed}")
for option in OPTIONS.values():
    if option.applies is not None:
        other, wanted = option.applies
        choices = OPTIONS[other].choices or (True, False)
        excluding = next(choice for choice in choices if choice not in wanted)
        value = option.default if option.default is not None else 0.5
        text = f"{option.name} .* has no effect with {other} = {excluding}"
        TOGETHER.setdefault(option.name, ({option.name: value, other: excluding}, text))
    if option.excludes:
        values = {
            option.name: {bool: True, int: 1, float: 1.0}[option.kind],
            option.excludes: {bool: True, int: 1, float: 1.0}[OPTIONS[option.excludes].kind],
        }
        for name in values:
            TOGETHER.setdefault(name, (values, "exclude each other"))


class OwnInput(TinySpec):
    def input_fn(
        self, batch_size, metadata, class_dict, is_tfrecord, epochs, image_size, preproc_fn
    ):
        images, kinds = np.zeros([12, SIZE, SIZE, 3], "f4"), np.arange(12) % 3
        data = tf.data.Dataset.from_tensor_slices((images, {"kind": kinds}))
        return lambda: data.batch(batch_size)


class OwnLoss(TinySpec):
    def losses(self, labels, logits):
        return {"kind": logits["kind"][:, 0] ** 2}


class OnlyValue(TinySpec):
    def __init__(self):
        super().__init__(noise=0.0, batch_norm=False)
        self.class_dict, self.depth = [Label("size", kind="value")], 1


# What keeps an option from acting in a run: the spec, its source, and what is said.
OWN, NO_NORM = "the spec's own input_fn", "the model has no keras.layers.BatchNormalization"
IN_A_RUN = [
    ("debug", True, OwnInput, "records", OWN),
    ("input_mode", "streaming", OwnInput, "records", OWN),
    ("image_feature", "image", OwnInput, "records", OWN),
    ("label_features", ("kind=a",), OwnInput, "records", OWN),
    ("on_bad_image", "skip", OwnInput, "records", OWN),
    ("max_image_pixels", 100, OwnInput, "records", OWN),
    ("png16_range", "0-255", OwnInput, "records", OWN),
    ("png16_range", "measured", plain_spec, "records", "none of the training images is a 16-bit"),
    ("balanced_sampling", "kind", OwnInput, "records", OWN),
    ("inspect", True, OwnInput, "records", OWN),
    ("export_saved_model", True, OwnInput, "records", OWN),
    ("eval_split", 0.2, OwnInput, "records", OWN),
    ("eval_split", 0.2, plain_spec, "records", "there is an evaluation set"),
    ("group_column", "person", OwnInput, "records", OWN),
    ("group_column", "person", plain_spec, "records", "there is an evaluation set"),
    ("from_model", "models/pets", plain_spec, "records", "the spec has its own network"),
    ("groups", "none", OwnInput, "records", OWN),
    ("groups", "none", plain_spec, "records", "there is an evaluation set"),
    ("image_feature", "image", plain_spec, "table", "no TFRecord files are read"),
    ("label_features", ("kind=a",), plain_spec, "table", "has no 'a'. Known: label"),
    ("label_features", ("kid=a",), plain_spec, "records", "names label 'kid'. Did you mean kind"),
    ("balanced_sampling", "kid", plain_spec, "records", "is no class label. Did you mean kind"),
    ("cluster_timeout_secs", 5.0, plain_spec, "records", "describes no cluster"),
    ("evaluator", "task", plain_spec, "records", "describes no cluster"),
    ("evaluator", "workers", plain_spec, "records", "describes no cluster"),
    ("labels", ("names",), OnlyValue, "values", "has 0 labels with classes"),
    ("trainable_scopes", ("hiden",), plain_spec, "records", "Did you mean hidden"),
    ("layer_decay", 0.5, plain_spec, "records", "no effect: only outputs"),
    ("freeze_layers", 0.01, plain_spec, "records", "no effect: the model has 1 layer before"),
    ("freeze_batch_norm", True, plain_spec, "records", NO_NORM),
    ("batch_norm_momentum", 0.5, plain_spec, "records", NO_NORM),
    ("sync_batch_norm", True, plain_spec, "records", NO_NORM),
    ("backbone", "mobilenet_v1", plain_spec, "records", "the spec has its own network"),
    ("label_smoothing", 0.1, OwnLoss, "records", "the spec has its own losses"),
    ("label_smoothing", 0.1, OnlyValue, "values", "no label whose loss can be smoothed"),
    ("regression_loss", "huber", plain_spec, "records", "no regression label"),
    ("teacher", ("gone",), plain_spec, "records", "'gone' is not there"),
    ("teacher", ("gone",), OnlyValue, "values", "no single-label or multilabel label"),
    ("loss", "focal", OwnLoss, "records", "the spec has its own losses"),
    ("loss", "focal", OnlyValue, "values", "focal is for single-label and multilabel labels"),
    ("loss", "asymmetric", plain_spec, "records", "asymmetric is for multilabel labels"),
    ("class_weights", "balanced", OnlyValue, "values", "no class label"),
    ("output_cm_folder", "cm", OnlyValue, "values", "no class label"),
    ("slice_column", "a", OnlyValue, "values", "needs a class label"),
    ("task_weights", "learned", plain_spec, "records", "no effect with one label"),
    ("mixup_alpha", 0.2, plain_spec, "records", "Expected an even number"),
    ("cutmix_alpha", 0.2, plain_spec, "records", "Expected an even number"),
    ("trackers", ("mlfow",), plain_spec, "records", "expected mlflow or wandb"),
    ("best_metric", "acuracy", plain_spec, "records", "Did you mean accuracy"),
    ("checkpoint_exclude_scopes", ("hiden",), plain_spec, "records", "Did you mean hidden"),
    ("checkpoint_restore_scopes", ("hiden",), plain_spec, "records", "Did you mean hidden"),
]  # fmt: skip
MORE = {
    "layer_decay": {"trainable_scopes": ("logits",)},
    "mixup_alpha": {"batch_size": 3},
    "cutmix_alpha": {"batch_size": 3},
}


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """Records of classes and of values, a table of pictures, and a model folder to start from."""
    folder = tmp_path_factory.mktemp("sources")
    found = {
        "records": write_records(folder / "records", count=12),
        "values": write_records(
            folder / "values", count=12, labels=lambda i, kind: {"size": float(i)}
        ),
        "table": str(folder / "table.csv"),
        "weights": str(folder / "weights"),
    }
    found["names"] = str(folder / "names.txt")
    (folder / "names.txt").write_text("a\nb\n")
    lines = ["URIs,labels"]
    for i in range(6):
        image = tf.io.encode_png(np.full([SIZE, SIZE, 3], 20 * i, np.uint8)).numpy()
        (folder / f"{i}.png").write_bytes(image)
        lines.append(f"{i}.png,{i % 3}")
    (folder / "table.csv").write_text("\n".join(lines))
    run(plain_spec(), found["weights"], found["records"], train_steps=1)
    return found


def test_every_option_can_be_rejected_or_always_acts():
    rejected = set(TOGETHER) | {name for name, *_ in IN_A_RUN}
    assert rejected | set(ALWAYS) == set(OPTIONS)
    assert not rejected & set(ALWAYS)


@pytest.mark.parametrize("name", sorted(TOGETHER))
def test_an_option_without_effect_beside_others_is_rejected(name):
    given, expected = TOGETHER[name]
    with pytest.raises(TficError, match=expected):
        make_settings(given)


@pytest.mark.slow_after(3)
@pytest.mark.parametrize(("name", "value", "make", "source", "expected"), IN_A_RUN)
def test_an_option_without_effect_in_a_run_is_rejected(
    sources, tmp_path, name, value, make, source, expected
):
    more = {"progress": False, **MORE.get(name, {})}
    if name.startswith("checkpoint_"):
        more["checkpoint_path"] = sources["weights"]
    data = sources[source]
    if name == "labels":
        value = (sources["names"],)
    with pytest.raises(TficError, match=expected):
        run(make(), tmp_path / "m", data, data, train_steps=1, **more, **{name: value})
    assert not (tmp_path / "m" / "checkpoints").exists()


# --- takes effect ----------------------------------------------------------------------------

# By option: another value than the usual one, and what else is set in both runs.
CHANGED = {
    "seed": (1, {}),
    "debug": (True, {}),
    "batch_size": (4, {}),
    "image_size": (6, {}),
    "input_mode": ("streaming", {}),
    "stream_block": (6, {"input_mode": "streaming"}),
    "inspect": (False, {}),
    "max_image_pixels": (10, {}),
    "strategy": ("mirrored", {}),
    "trainable_scopes": (("logits",), {}),
    "layer_decay": (0.5, {}),
    "freeze_layers": (0.9, {}),
    "freeze_batch_norm": (True, {}),
    "batch_norm_momentum": (0.3, {}),
    "moving_average_decay": (0.5, {}),
    "precision": ("mixed_bfloat16", {}),
    "train_steps": (5, {}),
    "epochs": (1.5, {}),
    "gradient_accumulation_steps": (2, {}),
    "steps_per_call": (2, {}),
    "gradient_clip_norm": (1e-3, {}),
    "gradient_clip_value": (1e-4, {}),
    "label_smoothing": (0.3, {}),
    "mixup_alpha": (0.5, {}),
    "cutmix_alpha": (0.5, {}),
    "task_weights": ("learned", {}),
    "balanced_sampling": ("kind", {"source": "uneven"}),
    "class_weights": ("balanced", {"source": "uneven"}),
    "sam_rho": (0.5, {}),
    "loss": ("focal", {}),
    "focal_gamma": (1.0, {"loss": "focal"}),
    "logit_adjustment_tau": (0.5, {"loss": "logit_adjusted", "source": "uneven"}),
    "regression_loss": ("huber", {}),
    "huber_delta": (0.1, {"regression_loss": "huber"}),
    "early_stopping_patience": (1, {"eval_every_steps": 1, "learning_rate": 0.0}),
    "optimizer": ("sgd", {}),
    "weight_decay": (0.5, {}),
    "learning_rate": (0.1, {}),
    "learning_rate_decay_type": ("fixed", {}),
    "warmup_steps": (3, {}),
    "learning_rate_decay_factor": (
        0.5,
        {
            "learning_rate_decay_type": "exponential",
            "learning_rate": 0.05,
            "num_epochs_per_decay": 0.25,
        },
    ),
    "save_summary_steps": (1, {}),
    "save_checkpoints_steps": (1, {}),
    "keep_checkpoint_max": (1, {"save_checkpoints_steps": 1}),
    "export_saved_model": (True, {}),
    "tensorboard_dir": ("{tmp}/logs", {"save_summary_steps": 1}),
    "export_dir": ("{tmp}/export", {"export_saved_model": True}),
    "eval_freq": (1, {}),
    "eval_throttle_secs": (0.0, {}),
    "eval_every_steps": (1, {}),
    "test_time_augmentation": ("flip", {}),
    "best_metric": ("kind/accuracy", {"eval_every_steps": 1}),
    "best_mode": ("min", {"best_metric": "kind/accuracy", "eval_every_steps": 1}),
    "output_cm_folder": ("{tmp}/pictures", {}),
    "eval_metadata": ((), {}),
    "progress": (True, {}),
}
for option in OPTIONS.values():
    if option.group in ("optimizer", "schedule") and option.applies is not None:
        other, wanted = option.applies
        changed = {
            "polynomial_power": 3.0, "one_cycle_warmup": 0.6, "num_epochs_per_decay": 0.1,
            "end_learning_rate": 0.1, "ftrl_learning_rate_power": -0.2, "nesterov": True,
        }.get(option.name, 0.5)  # fmt: skip
        CHANGED.setdefault(option.name, (changed, {other: wanted[0], "learning_rate": 0.05}))

# Options whose effect needs more than a short run on records: tests/test_config.py names their
# tests.
ELSEWHERE = {
    *("model_dir", "evaluate", "plan", "deterministic", "allow_changes", "cluster_timeout_secs"),
    *("train_metadata", "labels", "image_feature", "label_features", "data_service"),
    *("on_bad_image", "cache_dir", "checkpoint_path", "checkpoint_restore_scopes"),
    *("checkpoint_exclude_scopes", "checkpoint_averages", "head_phase", "sync_batch_norm"),
    *("backbone", "recipe", "label_columns", "label_kinds", "augmentation", "crop_area", "dropout"),
    *("eval_crop", "eval_stretch", "pixel_scaling", "jit_compile", "save_checkpoints_secs"),
    *("trackers", "evaluator"),
    *("slice_column", "png16_range", "verbose", "eval_split", "group_column", "groups"),
    *("unknown_rate", "unknown_examples", "from_model"),
    *("teacher", "distillation_temperature", "distillation_weight"),
    *("asymmetric_gamma_pos", "asymmetric_gamma_neg", "asymmetric_clip"),
}


def test_every_option_has_an_effect_that_is_shown():
    assert set(CHANGED) | ELSEWHERE == set(OPTIONS)
    assert not set(CHANGED) & ELSEWHERE


class Calls(Hook):
    """Remembers after which steps hooks were called."""

    def __init__(self):
        self.steps = []

    def after_step(self, run):
        self.steps.append(run.step)


def observed(folder, data, name, value, more, capsys):
    """All that can be seen of a run but its record of settings; ``value`` None: the usual one."""
    changes = {"train_steps": 4, "optimizer": "adam", **more}
    source = data[changes.pop("source", "both")]
    if value is not None:
        changes[name] = value.format(tmp=folder) if isinstance(value, str) else value
    if name == "epochs" and value is not None:
        del changes["train_steps"]
    evaluation = None if changes.pop("eval_metadata", None) == () else source
    calls = Calls()
    capsys.readouterr()
    spec = TinySpec(weights=(1.0, 1.0))
    try:
        run(spec, folder / "m", source, evaluation, hooks=[calls], **changes)
    except TficError as error:
        return {"error": re.sub(r"\d+", "", str(error)[:60])}
    saved = last_checkpoint(folder / "m")
    tensors = {n: hashlib.sha256(v.tobytes()).hexdigest() for n, v in saved.tensors.items()}
    lines = files.read_json_lines(str(folder / "m" / "metrics.jsonl"))
    tree = {
        os.path.relpath(os.path.join(place, file), folder)
        for place, _, names in os.walk(folder)
        for file in names
    }
    printed = re.sub(
        rf"{re.escape(str(folder))}|[\d.:]+ ?s\b|\d+%", "", "".join(capsys.readouterr())
    )
    counts = files.join(str(folder / "m"), "data.json")
    return {
        "tensors": tensors,
        "steps": saved.step,
        "called": calls.steps,
        "evaluations": [{k: v for k, v in line.items() if k != "time"} for line in lines],
        "files": sorted({re.sub("events.*", "events", path) for path in tree}),
        "best": saved.notes["hooks"].get("BestCheckpointHook/1", {}).get("step"),
        "devices": "devices:" in printed,
        "bar": "img/s" in printed,
        "counts": files.read_json(counts) if files.exists(counts) else None,
    }


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """Records with a class and a real value, all classes alike and one more than the others."""
    folder = tmp_path_factory.mktemp("both")
    return {
        "both": write_records(
            folder / "even", count=24, labels=lambda i, kind: {"kind": kind, "size": i / 4}
        ),
        "uneven": write_records(
            folder / "uneven",
            count=24,
            labels=lambda i, kind: {"kind": 0 if i % 4 else kind, "size": i / 4},
        ),
    }


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", sorted(CHANGED))
def test_an_option_takes_effect(both, tmp_path, name, capsys):
    value, more = CHANGED[name]
    usual = observed(tmp_path / "usual", both, name, None, more, capsys)
    changed = observed(tmp_path / "changed", both, name, value, more, capsys)
    assert "error" not in usual
    assert changed != usual
