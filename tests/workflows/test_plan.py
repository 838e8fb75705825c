"""The plan of a run: what it would do, and nothing done."""

import pytest

from tf_image_classification import train_estimator
from tf_image_classification.errors import RunMismatchError
from tiny_runs import last_checkpoint, plain_spec, run, tiny_settings, write_records


def test_a_plan_says_everything_and_writes_nothing(tmp_path, capsys):
    records = write_records(tmp_path)
    settings = tiny_settings(tmp_path / "model", records, records, epochs=2.0, plan=True)
    train_estimator.train(plain_spec(), settings)
    text = capsys.readouterr().out
    for expected in (
        "learning_rate: 0.01",
        "# argument",
        "40 examples",
        "3 classes",
        "14 steps",
        "images seen: 84",
        "learning rate by step",
        "one step:",
        "memory:",
    ):
        assert expected in text
    assert text.startswith("the whole run: about ")  # before the details
    assert not (tmp_path / "model").exists()
    assert "starts: with initial weights" in text


@pytest.mark.slow
def test_the_plan_of_a_run_that_has_begun_is_for_its_rest(tmp_path, capsys):
    records = write_records(tmp_path)
    run(plain_spec(), tmp_path / "model", records, train_steps=4)
    capsys.readouterr()
    settings = tiny_settings(tmp_path / "model", records, train_steps=9, plan=True)
    train_estimator.train(plain_spec(), settings)
    text = capsys.readouterr().out
    assert "starts: at step 4, from the newest checkpoint in" in text and "the rest:" in text
    assert last_checkpoint(tmp_path / "model").step == 4
    with pytest.raises(RunMismatchError, match="seed: 0 there, 1 now"):
        train_estimator.train(plain_spec(), settings.replace(seed=1))
