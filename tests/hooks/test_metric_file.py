import json

from fake_run import FakeEvaluation, FakeRun

from tf_image_classification.hooks import MetricFileHook


def test_every_number_is_a_line_and_old_lines_go(tmp_path):
    path = tmp_path / "deep" / "metrics"
    hook, run = MetricFileHook(str(path), "7"), FakeRun()
    for step in range(60):
        run.step = step
        hook.after_evaluation(run, FakeEvaluation(loss=0.5, accuracy=step / 100))
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(lines) == 100
    assert lines[-1]["accuracy"] == "0.59"
    assert (lines[-1]["global_step"], lines[-1]["trial"]) == ("59", "7")
    assert lines[0]["loss"] == "0.5"
