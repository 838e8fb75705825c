"""The progress bar, where there is a terminal and where there is none."""

import io

import pytest

from hooks.fake_run import FakeEvaluation, FakeRun, go_on, walk
from tf_image_classification.hooks import ProgressHook


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
@pytest.mark.parametrize("ends", ["end", "on_stop"])
def test_the_bar_shows_images_loss_and_input_wait(monkeypatch, stream, ends):
    written = stream()
    monkeypatch.setattr("sys.stderr", written)
    hook, run = ProgressHook(secs=1e-9), FakeRun(step=2, train_steps=10)
    walk(hook, run, to=6)
    hook.after_evaluation(run, FakeEvaluation(accuracy=0.5, per_class=[1, 2]))
    go_on(hook, run, to=10)
    getattr(hook, ends)(run, *(["SIGTERM"] if ends == "on_stop" else []))
    hook.close()
    text = written.getvalue()
    if stream is Terminal:
        assert "train loss" in text and "accuracy" in text and "0.5000" in text
        assert "loss 110.0000" in text and "100%" in text
        return
    assert "evaluation at step 6: accuracy 0.5000" in text
    assert "40 of 40 img" in text and "step 10/10" in text
    assert "loss 110.0000" in text and "input wait 25%" in text
    lines = text.splitlines()
    assert text.isascii() and "\r" not in text and lines == [line.strip() for line in lines]
