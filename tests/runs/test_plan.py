"""The plan of a run: what it would do, and nothing done."""

from tf_image_classification import train_estimator
from tiny_runs import plain_spec, tiny_settings, write_records


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
        "13 steps",
        "images seen: 78",
        "learning rate by step",
        "one step:",
        "memory:",
    ):
        assert expected in text
    assert not (tmp_path / "model").exists()
