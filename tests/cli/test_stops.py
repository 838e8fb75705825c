"""A signal ends every verb that takes long with one line and the right status."""

import os
import signal
import sys

import pytest

sys.path.insert(
    0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "workflows")
)

from signal_program import SPEC, trap

import tiny_runs
from tf_image_classification.cli.main import VERBS, main

ROOT = "tf_image_classification"
SPACE = "learning_rate: {low: 0.001, high: 0.1}\n"
WORK = {
    "train": ("workflows.train:train", "TRAINING"),
    "evaluate": ("workflows.evaluate:evaluate_folder", "--model_dir {dir}"),
    "report": ("workflows.report:write_report", "{dir}"),
    "combine": ("workflows.combine:combine", "{dir}/a {dir}/b --model_dir {dir}/c"),
    "predict": ("serving.predictor:load_model", "{dir} {dir}"),
    "export": ("workflows.export:export_folder", "{dir} --format litert"),
    "serve": ("serving.predictor:load_model", "{dir} --port 0"),
    "cross-validate": ("workflows.cross_validate:_open", "TRIAL --model_dir {dir}/cv"),
    "tune": (
        "workflows.tune:_optuna",
        "TRIAL --eval_metadata {dir}/train-* --space {dir}/space.yml --trials 2 --study_dir {dir}",
    ),
    "convert": ("workflows.convert:convert", "{dir} {dir}/out"),
    "inspect": ("workflows.inspect:inspect", "{dir}"),
    "label-next": ("workflows.label_next:label_next", "{dir}"),
    "forecast": ("workflows.forecast:forecast", "{dir}"),
    "find-learning-rate": ("workflows.find_learning_rate:find_learning_rate", "TRIAL"),
    "find-batch-size": ("workflows.find_batch_size:find_batch_size", "TRIAL"),
    "check-spec": ("workflows.setup.spec_check:check_spec", f"{SPEC} --train_metadata x"),
}
"""By verb the function that does its work, and the rest of a command line that comes there."""

RESUMES = ("train", "cross-validate", "tune", "convert")
OTHERS = {"completion", "launch", "compare", "preview", "backbones", "submit", "example"}
"""``launch`` has tests of its own, the others take seconds."""


def test_every_verb_is_tried_or_takes_no_time():
    assert set(VERBS) == set(WORK) | OTHERS


@pytest.mark.parametrize("verb", WORK)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_a_verb_with_one_line_and_its_status(
    verb, number, tmp_path, monkeypatch, capsys
):
    (tmp_path / "space.yml").write_text(SPACE)
    where, rest = WORK[verb]
    trial = f"--spec {SPEC} --train_metadata {tiny_runs.write_records(tmp_path)} --image_size 8"
    training = f"{trial} --eval_metadata {tmp_path}/train-* --model_dir {tmp_path}/model"
    line = rest.replace("TRAINING", training).replace("TRIAL", trial).format(dir=tmp_path)
    trap(f"{ROOT}.{where}", number, put=monkeypatch.setattr)
    try:
        status = main([verb, *line.split()])
    except SystemExit as ended:
        status = ended.code
    error = capsys.readouterr().err
    assert status == (75 if verb in RESUMES else 128 + number), error
    assert error.startswith(f"Stopped by {signal.Signals(number).name}")
    assert error.count("\n") == 1
    assert ("again" in error) == (verb in RESUMES)
