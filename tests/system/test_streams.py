"""The command with closed streams, readers that leave, full disks and narrow encodings."""

import os
import subprocess
import sys

import pytest

from tf_image_classification.system import streams

TFIC = f"{sys.executable} -m tf_image_classification.cli.main"


def shell(line, **environment):
    return subprocess.run(
        ["bash", "-c", line.format(tfic=TFIC)],
        capture_output=True, text=True, errors="surrogateescape", env=os.environ | environment,
    )  # fmt: skip


@pytest.mark.slow_after(4)
@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize(
    ("words", "status"),
    [("--help", 0), ("backbones vgg", 0), ("trian", 2), ("train --spec", 2), ("convert", 2)],
)
def test_closed_streams_change_no_status_and_leave_no_traceback(closed, words, status):
    done = shell(f"{{tfic}} {words} {closed}")
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert "Exception" not in done.stdout + done.stderr


def test_a_file_never_gets_the_number_of_a_closed_stream(tmp_path):
    """Otherwise what a library prints is written into the first file that is opened."""
    program = (
        "import os; from tf_image_classification.system import streams; streams.prepare(); "
        f"f = open({str(tmp_path / 'data')!r}, 'wb'); os.write(1, b'log'); os.write(2, b'log'); "
        "print('text'); f.write(b'data'); f.close()"
    )
    done = shell(f"{sys.executable} -c {program!r} >&- 2>&- <&-".replace("{", "{{"))
    assert done.returncode == 0
    assert (tmp_path / "data").read_bytes() == b"data"


@pytest.mark.parametrize("function", ["train", "evaluate"])
def test_a_program_of_ones_own_may_be_started_with_closed_streams(tmp_path, function):
    """It ends as usual, and what it opens afterwards has no stream's number."""
    (tmp_path / "mine.py").write_text(
        "from tf_image_classification import train_estimator\n"
        f"try:\n    train_estimator.{function}(None)\n"
        "except SystemExit as end:\n    status = end.code\n"
        "with open('data', 'w') as stream:\n    stream.write(f'{status} {stream.fileno() > 2}')\n"
    )
    for words, status in (("--print_config", 0), ("--nonsense", 2)):
        shell(f"cd {tmp_path} && {sys.executable} mine.py {words} <&- >&- 2>&-")
        assert (tmp_path / "data").read_text() == f"{status} True"


@pytest.mark.slow_after(3)
@pytest.mark.parametrize("words", ["backbones", "train --help", "--help"])
@pytest.mark.parametrize("reader", ["true", "head -1"])
def test_a_reader_that_leaves_is_no_error(words, reader):
    done = shell(f"{{tfic}} {words} | {reader}; exit ${{{{PIPESTATUS[0]}}}}")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("words", ["backbones", "--help", "train --help"])
def test_a_full_disk_under_standard_output_is_an_error(words):
    if not os.path.exists("/dev/full"):
        pytest.skip("there is no /dev/full")
    done = shell(f"{{tfic}} {words} > /dev/full")
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "Standard output cannot be written: No space left on device."
    ]


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_characters_that_a_stream_lacks_are_escaped(encoding):
    done = shell("{tfic} K\u00e4tzchen\u732b\udcff", PYTHONIOENCODING=encoding, PYTHONUTF8="1")
    assert done.returncode == 2 and "unknown verb" in done.stderr
    assert "Traceback" not in done.stderr


def test_lines_of_standard_input_keep_their_bytes(tmp_path, monkeypatch):
    names = [b"a.png", b"\xff.png", " ä.png ".encode(), b"", b"last"]
    (tmp_path / "list").write_bytes(b"\xef\xbb\xbf" + b"\r\n".join(names))
    with open(tmp_path / "list", encoding="utf-8") as stream:
        monkeypatch.setattr(sys, "stdin", stream)
        assert list(streams.input_lines()) == [os.fsdecode(name) for name in names]
