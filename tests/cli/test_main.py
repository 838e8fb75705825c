"""The command ``tfic``: finding verbs, their own arguments, and how it ends."""

import importlib.metadata
import itertools
import re
import subprocess
import sys
from pathlib import Path

import pytest

import tf_image_classification
from tf_image_classification.cli import main


def test_help_names_every_verb_and_every_verb_has_its_file(capsys):
    for line in ([], ["--help"], ["-h"], ["help"]):
        assert main.main(line) == 0
        out = capsys.readouterr().out
        assert all(verb in out for verb in main.VERBS)
    folder = Path(main.__file__).parent
    found = {p.stem.replace("_", "-") for p in folder.glob("*.py")}
    assert found - {"--init--", "main", "verb", "specs"} == set(main.VERBS)


def test_an_unknown_verb_is_answered_with_near_ones(capsys):
    assert main.main(["trian"]) == 2
    assert "Did you mean train?" in capsys.readouterr().err


def test_the_version_is_printed(capsys):
    assert main.main(["--version"]) == 0
    assert capsys.readouterr().out == f"tfic {tf_image_classification.__version__}\n"


def test_the_installed_command_is_this_one():
    (command,) = importlib.metadata.entry_points(group="console_scripts", name="tfic")
    assert command.load() is main.main
    result = subprocess.run(
        [sys.executable, "-m", "tf_image_classification.cli.main", "trian"], capture_output=True
    )
    assert result.returncode == 2


@pytest.mark.parametrize("verb", ["train", "evaluate", "check-spec"])
def test_each_verb_has_help(verb, capsys):
    assert main.main([verb, "--help"]) == 0
    assert f"usage: tfic {verb}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("nonsense", "expected module:Class"),
        ("no_such_file.py:Spec", "There is no file"),
        ("no_such_module:Spec", "no_such_module"),
        ("json:JSONDecodr", "Did you mean JSONDecoder"),
        ("json:JSONDecoder", "not a subclass of EstimatorSpec"),
    ],
)
def test_a_spec_that_is_not_there_ends_check_spec_with_a_message(reference, expected, capsys):
    with pytest.raises(SystemExit) as end:
        main.main(["check-spec", reference])
    assert end.value.code == 1
    assert expected in capsys.readouterr().err


SPEC = """
from tf_image_classification import train_estimator
from tiny_runs import TinySpec

class Mine(TinySpec):
    pass

class Lacking(TinySpec.__mro__[1]):
    class_dict = []

train_estimator.train(Mine())
"""


@pytest.fixture
def script(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_script.py").write_text(SPEC)
    return "my_script.py"


@pytest.mark.slow
def test_a_script_that_trains_when_it_is_run_is_only_read_for_its_spec(script, capsys):
    assert main.main(["check-spec", f"{script}:Mine", "--image_size", "8"]) == 0
    printed = capsys.readouterr().out
    assert "keeps the contract" in printed
    for name in ("saved_model", "litert", "onnx", "keras"):
        assert f"export {name}: works" in printed


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("./my_script:Mine", "Write file.py:Class for a file"),
        ("my_script.py:Lacking", "cannot be constructed: .*get_model_fn"),
    ],
)
def test_a_spec_that_cannot_be_had_is_explained(script, reference, expected, capsys):
    with pytest.raises(SystemExit):
        main.main(["check-spec", reference])
    assert re.search(expected, capsys.readouterr().err)


@pytest.mark.parametrize(
    ("flag", "name"),
    [
        (("--train_steps", "5"), "train_steps"),
        (("--noinspect",), "inspect"),
        (("--data_service", "grpc://host:1", "--nodeterministic"), "data_service"),
    ],
)
def test_flags_that_do_nothing_in_an_evaluation_are_refused_and_not_in_its_help(capsys, flag, name):
    assert main.main(["evaluate", "--help"]) == 0
    text = capsys.readouterr().out
    assert "--eval_metadata" in text and f"--{name}" not in text
    with pytest.raises(SystemExit, match="2"):
        main.main(["evaluate", "--model_dir", "m", *flag])
    assert f"{name} has no effect in tfic evaluate. Remove it" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("verb", "name"),
    [
        *itertools.product(
            ("find-learning-rate", "find-batch-size"),
            ("learning_rate", "warmup_steps", "model_dir", "export_dir", "eval_metadata"),
        ),
        ("find-batch-size", "batch_size"),
    ],
)
def test_flags_that_do_nothing_in_a_trial_are_refused_and_not_in_its_help(verb, name, capsys):
    assert main.main([verb, "--help"]) == 0
    text = capsys.readouterr().out
    assert "--train_metadata" in text and f"--{name} " not in text
    with pytest.raises(SystemExit, match="2"):
        main.main([verb, "--backbone", "mobilenet_v2", f"--{name}", "5"])
    assert f"--{name} has no effect in tfic {verb}. Remove it" in capsys.readouterr().err


def test_a_trial_does_not_look_at_the_model_folder_of_another_run(tmp_path, monkeypatch, capsys):
    from tf_image_classification.workflows import find_batch_size

    found = find_batch_size.BatchSizes({8: 1.0}, 8, 8)
    manifests = []

    def find(context):
        manifests.append(context.folder.read_manifest())
        return found

    monkeypatch.setattr(find_batch_size, "find_batch_size", find)
    monkeypatch.chdir(tmp_path)
    for name in ("models", "pets/cat", "pets/dog"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "1.png").write_bytes(b"x")
    (tmp_path / "models" / "run.json").write_text("the record of another run")
    line = "find-batch-size --backbone mobilenet_v2 --checkpoint_path none --train_metadata pets"
    assert main.main(line.split()) == 0
    assert manifests == [None] and "--batch_size 8" in capsys.readouterr().out


def test_nobody_minds_a_reader_that_has_enough():
    command = f"{sys.executable} -m tf_image_classification.cli.main train --help | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert done.stdout.startswith("usage") and done.stderr == ""


def test_check_spec_without_a_spec_asks_for_it(capsys):
    with pytest.raises(SystemExit, match="2"):
        main.main(["check-spec"])
    assert "missing: SPEC. Example: tfic check-spec pets.py" in capsys.readouterr().err
