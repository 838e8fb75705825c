"""Which class has which number: fixed once, and never guessed."""

import pytest
import tensorflow as tf

from tf_image_classification import train_estimator
from tf_image_classification.errors import LabelError
from tiny_runs import plain_spec, run, tiny_settings, write_records


@pytest.fixture
def named(tmp_path):
    """A CSV whose classes have names, and records in which they have numbers."""
    image = tf.io.encode_png(tf.zeros([8, 8, 3], tf.uint8)).numpy()
    (tmp_path / "a.png").write_bytes(image)
    (tmp_path / "t.csv").write_text("URIs,labels\na.png,zero\na.png,one\na.png,two\n")
    (tmp_path / "names").write_text("zero\none\ntwo\n")
    return str(tmp_path / "t.csv"), write_records(tmp_path), str(tmp_path / "names")


def test_numbers_are_refused_where_only_names_are_known(named, tmp_path):
    table, records, _names = named
    with pytest.raises(LabelError, match="number 0, which is none of the class names"):
        run(plain_spec(), tmp_path / "m", table, records, train_steps=1)
    run(plain_spec(), tmp_path / "m", table, train_steps=1)
    with pytest.raises(LabelError, match=r"record 0: .* Train with labels=FILE"):
        train_estimator.evaluate(plain_spec(), tiny_settings(tmp_path / "m", table, records))


@pytest.mark.slow
def test_numbers_are_lines_of_the_labels_file(named, tmp_path):
    table, records, names = named
    run(plain_spec(), tmp_path / "m", table, records, train_steps=1, labels=(names,))
    result = train_estimator.evaluate(plain_spec(), tiny_settings(tmp_path / "m", table, records))
    assert result.step == 1


@pytest.mark.slow
def test_a_class_of_another_run_in_the_folder_is_told(named, tmp_path):
    table, records, _names = named
    run(plain_spec(), tmp_path / "m", records, train_steps=1)
    with pytest.raises(LabelError, match="'zero', .*those of the run in the model folder"):
        run(plain_spec(), tmp_path / "m", table, train_steps=1)


def test_a_class_without_examples_is_named(tmp_path, capsys):
    only_two = write_records(tmp_path, labels=lambda i, kind: {"kind": float(i % 2)})
    run(plain_spec(), tmp_path / "m", only_two, train_steps=1)
    assert "3 classes: 0 20, 1 20, 2 0; NO example of 2" in capsys.readouterr().out
