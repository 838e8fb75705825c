"""Help, typing errors and imports answer at once: none of them loads TensorFlow."""

import subprocess
import sys

PROGRAM = """
import contextlib, io, sys

def heavy():
    loaded = {name.split(".")[0] for name in sys.modules}
    return sorted(loaded & {"tensorflow", "keras", "tensorboard", "matplotlib"})

def check(what):
    assert not heavy(), f"{what} loads {heavy()}"

import tf_image_classification
check("the package")
from tf_image_classification import estimator_specs, train_estimator
check("the front door")
from tf_image_classification import Label, Settings, make_settings, EstimatorSpec, train, evaluate
check("the public names")
from tf_image_classification import utils
from tf_image_classification.config import command_line
from tf_image_classification.system import files
check("utils")
from tf_image_classification.cli.main import main

def call(*arguments, status):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            found = main(list(arguments))
        except SystemExit as end:
            found = end.code
    assert found == status, (arguments, found, err.getvalue())
    check(" ".join(arguments))
    return out.getvalue() + err.getvalue()

assert "train" in call("--help", status=0)
assert "--batch_size" in call("train", "--help", status=0)
assert "--batch_size" in call("evaluate", "--help", status=0)
assert "--batch_size" in call("check-spec", "--help", status=0)
assert tf_image_classification.__version__ in call("--version", status=0)
assert "batch_size" in call("train", "--spec", "a:B", "--bach_size", "3", status=2)
assert "has no effect" in call("train", "--spec", "a:B", "--momentum", ".5", status=2)
assert "batch_size: 3" in call("train", "--batch_size", "3", "--print_config", status=0)
assert "missing: DATA" in call("train", status=2)
assert "vgg16" in call("backbones", "vgg", status=0)
from tf_image_classification.cli.main import VERBS
for verb in VERBS:
    assert f"usage: tfic {verb}" in call(verb, "--help-all", status=0)
assert "unknown verb" in call("trian", status=2)
print("nothing loaded")
"""


def test_help_errors_and_imports_load_no_tensorflow():
    result = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "nothing loaded" in result.stdout
