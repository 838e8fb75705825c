"""What a run says of the time that it spends waiting for input."""

import dataclasses
import logging

import pytest

import tiny_runs
from hooks.fake_run import FakeRun
from tf_image_classification.backbone_spec import BackboneSpec
from tf_image_classification.config import BackboneSettings
from tf_image_classification.labels import Label
from tf_image_classification.workflows.setup import input_wait, run_data
from tf_image_classification.workflows.setup.context import make_context


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return tiny_runs.write_records(tmp_path_factory.mktemp("records"))


def pipeline_of(spec, records, tmp_path):
    settings = tiny_runs.tiny_settings(tmp_path / "m", records)
    return run_data.read_data(make_context(spec, settings)).train


def without_cache(pipeline):
    reader = dataclasses.replace(pipeline.reader, cache=None)
    return dataclasses.replace(pipeline, reader=reader)


@pytest.mark.slow
def test_stages_are_timed_for_ready_and_for_own_preprocessing(records, tmp_path):
    small = pipeline_of(tiny_runs.plain_spec(), records, tmp_path)
    assert list(input_wait.time_stages(small)) == ["preprocessing"]  # decoded once, and kept
    own = input_wait.time_stages(without_cache(small))
    assert list(own) == ["reading", "decoding", "preprocessing"]
    spec = BackboneSpec([Label("kind", depth=3)], BackboneSettings(backbone="mobilenet_v1_025"))
    ready = pipeline_of(spec, records, tmp_path)
    fused = input_wait.time_stages(without_cache(ready))
    assert list(fused) == ["reading", "decoding"]
    assert all(secs >= 0 for secs in (*own.values(), *fused.values()))


@pytest.mark.parametrize(
    ("longest", "advice"),
    [("reading", "local disk"), ("decoding", "--short_side"), ("preprocessing", "Preprocessing")],
)
def test_the_longest_stage_decides_the_advice(longest, advice):
    secs = {"reading": 1e-4, "decoding": 1e-4, "preprocessing": 1e-4} | {longest: 8e-4}
    text = input_wait.explain(secs)
    assert advice in text and f"{longest} 80%" in text and "1000 images/s" in text


@pytest.mark.parametrize(("share", "warns"), [(0.05, False), (0.4, True)])
def test_a_training_that_waits_says_so_once(records, tmp_path, caplog, share, warns):
    hook = input_wait.InputWaitHook(pipeline_of(tiny_runs.plain_spec(), records, tmp_path))
    run = FakeRun(train_steps=300)
    hook.begin(run)
    with caplog.at_level(logging.WARNING):
        for step in range(1, 200):
            run.step = step
            run.step_secs += 30.0 if step == 1 else 0.5
            run.wait_secs += 29.0 if step == 1 else share * 0.5  # the first step is left out
            hook.after_step(run)
    found = [r.getMessage() for r in caplog.records if "waiting for input" in r.getMessage()]
    assert len(found) == int(warns)
    assert not warns or found[0].startswith("40 % of the steps' time")
