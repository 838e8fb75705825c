"""Errors from Python name keywords."""

import pytest

from tf_image_classification import load_model, train
from tf_image_classification.classifier.keyword_errors import in_keywords
from tf_image_classification.classifier.options import settings_of
from tf_image_classification.errors import TficError

_SAME = "Evaluate again: tfic evaluate --model_dir a/b.c"


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("Give --eval_metadata.", "Give eval_metadata."),
        ("--tolerance allows more", "tolerance allows more"),
        ("Use --steps_per_call 1.", "Use steps_per_call=1."),
        ("Use --jit_compile off, or more", "Use jit_compile='off', or more"),
        ("or --strategy one_device.", "or strategy='one_device'."),
        ("lower it (--batch_norm_momentum).", "lower it (batch_norm_momentum)."),
        ("Train with --labels FILE, a list", "Train with labels=FILE, a list"),
        ("Name it with --image_feature, or", "Name it with image_feature, or"),
        ("add --noinspect to go on", "add inspect=False to go on"),
        ("with --allow_changes to resume", "with allow_changes=True to resume"),
        ("--png16_range 0-4095; or", "png16_range='0-4095'; or"),
        ("--label_features breed=KIND.", "label_features='breed=KIND'."),
        ("pip install --no-deps x. Or --epochs", "pip install --no-deps x. Or epochs"),
        (_SAME, _SAME),
        ("a pre--existing folder a--b", "a pre--existing folder a--b"),
    ],
)
def test_flags_become_keywords(message: str, expected: str) -> None:
    assert in_keywords(message) == expected


def test_the_errors_of_train_and_load_model_name_keywords(tmp_path) -> None:
    (tmp_path / "one").mkdir()
    with pytest.raises(TficError) as caught:
        train(str(tmp_path), eval_split=2, epochs=1, model_dir=str(tmp_path / "run"))
    assert "--" not in str(caught.value)
    with pytest.raises(TficError) as caught:
        load_model(tmp_path / "none")
    assert not str(caught.value).startswith("--")
    with pytest.raises(TficError, match=r"precision='mixed_bfloat16'"):
        train(str(tmp_path), strategy="tpu", precision="mixed_float16")


def test_options_that_need_an_evaluation_set_are_accepted_with_one():
    settings = settings_of({"train": "pets", "val": "more", "eval_every_steps": 5})
    assert settings.data.eval_metadata == ("more",)
    assert settings.evaluation.eval_every_steps == 5
