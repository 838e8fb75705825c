"""Lines and progress, on a terminal and without one, and when a command is quiet."""

import io
import sys

import pytest

from tf_image_classification.system import screen


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    shown = Terminal()

    def start():  # in the test itself, since pytest sets the streams before each
        monkeypatch.setattr(sys, "stdout", shown)
        monkeypatch.setattr(sys, "stderr", shown)
        return shown

    return start


def test_lines_are_unchanged_without_a_terminal(capsys):
    screen.say("train: 299 examples\n  6 classes: " + "glass 60, " * 20)
    assert (
        capsys.readouterr().out == "train: 299 examples\n  6 classes: " + "glass 60, " * 20 + "\n"
    )


def test_lines_fit_the_terminal_and_their_keys_are_emphasised(terminal):
    shown = terminal()
    screen.say("train: 299 examples of [bold]\n  6 classes: " + "glass 60, " * 20)
    text = shown.getvalue()
    assert "\x1b[1mtrain" in text and "[bold]" in text
    assert max(map(len, text.splitlines())) <= 60 + len("\x1b[1m\x1b[0m")


def test_no_color_leaves_no_colours(terminal, monkeypatch):
    shown = terminal()
    monkeypatch.setenv("NO_COLOR", "1")
    with screen.progress("convert", "shards") as show:
        show(1, 2, at_once=True)
    assert "\x1b[3" not in shown.getvalue() and "convert" in shown.getvalue()


def test_a_bar_on_a_terminal_fits_its_width(terminal):
    shown = terminal()
    with screen.progress("convert", "shards") as show:
        show(1, 4, at_once=True)
        show.write("a line [above] the bar")
        show(4, 4, "a note", at_once=True)
    text = shown.getvalue()
    assert (
        "4/4" in text and "100%" in text and "a note" in text and "a line [above] the bar" in text
    )


def test_a_bar_of_an_unknown_total_ends_with_what_was_done(terminal):
    shown = terminal()
    with screen.progress("predict", "img") as show:
        for done in range(1, 8):
            show(done, 0)
    assert shown.getvalue().rindex("7/7") > shown.getvalue().rfind("1/?")


def test_progress_can_be_left_out(terminal, capsys):
    with screen.progress("predict", "img", is_shown=False) as show:
        show(1, 2, at_once=True)
    assert capsys.readouterr().err == ""
    shown = terminal()
    with screen.progress("predict", "img", is_shown=False) as show:
        show(1, 2, at_once=True)
    assert shown.getvalue() == ""


def test_plain_lines_come_now_and_then(capsys, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(screen.time, "monotonic", lambda: now[0])
    with screen.progress("inspect", "img") as show:
        for done in range(1, 101):
            now[0] += 1.0
            show(done, 100)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert lines[0] == "inspect: 30 of 100 img, 1 img/s, 1:10 left"


def test_when_quiet_only_results_are_shown(capsys):
    with screen.quiet():
        screen.say("information")
        screen.say("result", is_result=True)
        with screen.progress("inspect", "img") as show, screen.working("waiting"):
            show(1, 2, at_once=True)
            show.write("a line")
    screen.say("afterwards")
    captured = capsys.readouterr()
    assert captured.out == "result\nafterwards\n" and not captured.err


def test_long_work_is_named_and_then_erased(terminal):
    shown = terminal()
    with screen.working("loading TensorFlow"):
        assert "loading TensorFlow ..." in shown.getvalue()
    assert shown.getvalue().rstrip("\n").endswith(("\x1b[2K", "\x1b[?25h"))
