"""What libraries write to standard error is hidden, unless it is asked for or an error needs it."""

import importlib
import os
import signal
import subprocess
import sys
import textwrap

import pytest
import tensorflow as tf

from tf_image_classification.cli.main import VERBS
from tf_image_classification.system import quiet
from tf_image_classification.system.process_exit import ends_the_process

TFIC = [sys.executable, "-m", "tf_image_classification.cli.main"]


def started(command, env=None, cwd=None):
    environment = {n: v for n, v in os.environ.items() if n != "TF_CPP_MIN_LOG_LEVEL"}
    return subprocess.run(
        command, capture_output=True, text=True, cwd=cwd, env=environment | (env or {})
    )


def program(text, **options):
    head = (
        "import logging, os, sys, warnings\n"
        "from tf_image_classification.errors import DataError\n"
        "from tf_image_classification.system import quiet\n"
    )
    return started([sys.executable, "-c", head + textwrap.dedent(text)], **options)


# --- the blocks ------------------------------------------------------------------------------


def test_a_block_hides_the_descriptor_and_nothing_of_python():
    done = program("""
        early = logging.getLogger("early")
        with quiet.hidden():
            os.write(2, b"native\\n")
            with quiet.hidden():
                os.system("echo a program >&2")
            print("printed", file=sys.stderr)
            warnings.warn("warned")
            early.warning("logged")
            late = logging.StreamHandler()
        os.write(2, b"afterwards\\n")
        late.emit(logging.makeLogRecord({"msg": "a handler of the block"}))
    """)
    for shown in ("printed", "warned", "logged", "afterwards", "a handler of the block"):
        assert shown in done.stderr
    assert "native" not in done.stderr and "program" not in done.stderr
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("error", "is_shown"),
    [("RuntimeError('x')", True), ("DataError('x')", False), ("KeyboardInterrupt()", False)],
)
def test_an_unexpected_error_shows_the_text(error, is_shown):
    done = program(f"""
        try:
            with quiet.hidden():
                os.write(2, b"native\\n")
                raise {error}
        except BaseException:
            pass
    """)
    assert ("native" in done.stderr) == is_shown


@pytest.mark.parametrize("end", ["os.abort()", "os.kill(os.getpid(), 9)"])
def test_a_process_that_dies_in_a_block_shows_the_text(end, tmp_path):
    done = program(
        f"""
        with quiet.hidden():
            os.write(2, b"the cause\\n")
            {end}
        """,
        env={"TMPDIR": str(tmp_path)},
    )
    assert done.returncode in (-signal.SIGABRT, -signal.SIGKILL)
    assert done.stderr.count("the cause") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("redirection", ["2>&-", "2>&- >&- <&-", "2>/dev/null"])
def test_a_missing_standard_error_does_no_harm(redirection, tmp_path):
    (tmp_path / "program.py").write_text(
        "import os\n"
        "from tf_image_classification.system import quiet\n"
        "with quiet.hidden():\n    print('x', file=__import__('sys').stderr)\n"
        "with quiet.captured() as text:\n    pass\n"
        f"open({str(tmp_path / 'done')!r}, 'w').write(text())\n"
    )
    line = f"{sys.executable} {tmp_path / 'program.py'} {redirection}"
    assert started(["bash", "-c", line], env={"TMPDIR": str(tmp_path)}).returncode == 0
    assert sorted(os.listdir(tmp_path)) == ["done", "program.py"]


def test_captured_text_is_given_to_the_caller_also_that_of_python(capfd):
    with quiet.captured() as text:
        os.write(2, b"native\n")
    assert text() == "native\n"
    assert capfd.readouterr().err == ""
    done = program("""
        with quiet.captured() as text:
            print("python", file=sys.stderr)
        print(text())
    """)
    assert (done.stdout.strip(), done.stderr) == ("python", "")


# --- the import of TensorFlow, in every process --------------------------------------------------

NOISE = "cpu_feature_guard.cc: a notice"


@pytest.fixture
def tensorflow(tmp_path):
    """Makes a package ``tensorflow`` that writes a notice and ends in a given way."""

    def make(end):
        (tmp_path / "tensorflow").mkdir()
        (tmp_path / "tensorflow" / "__init__.py").write_text(
            f"import os\nos.write(2, b'{NOISE} ' + os.environ['TF_CPP_MIN_LOG_LEVEL'].encode())\n"
            f"os.write(2, b'\\n')\n{end}\n"
        )
        path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
        return {"PYTHONPATH": path}

    return make


EXPECTED = "from tf_image_classification.errors import DataError\nraise DataError('the end')"


@pytest.mark.slow_after(3)
@pytest.mark.parametrize(
    "words",
    [
        "train --backbone mobilenet_v2 --train_metadata x",
        "check-spec a.py:B",
        "evaluate --model_dir m --eval_metadata x",
        "report m",
        "export m --format onnx",
    ],
)
def test_a_command_hides_the_import_unless_it_is_verbose(tensorflow, tmp_path, words):
    environment = tensorflow(EXPECTED)
    command = [*TFIC, *words.split()]
    done = started(command, env=environment, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (1, "DataError: the end\n")
    verbose = started([*command, "-v"], env=environment, cwd=tmp_path)
    assert verbose.stderr == f"{NOISE} 0\nDataError: the end\n"


@pytest.mark.parametrize(("level", "is_shown"), [("0", True), ("3", False)])
def test_a_log_level_of_the_user_is_kept(tensorflow, tmp_path, level, is_shown):
    environment = tensorflow(EXPECTED) | {"TF_CPP_MIN_LOG_LEVEL": level}
    command = [*TFIC, "report", "m"]
    assert (NOISE in started(command, env=environment).stderr) == is_shown
    verbose = started([*command, "--verbose"], env=environment)
    assert f"{NOISE} {level}" in verbose.stderr


@pytest.mark.parametrize("end", ["os.abort()", "raise ImportError('of another version')"])
def test_an_import_that_fails_shows_its_messages(tensorflow, end):
    done = started([*TFIC, "report", "m"], env=tensorflow(end))
    assert done.returncode and NOISE in done.stderr


@pytest.mark.slow
def test_a_program_of_ones_own_and_the_tasks_of_a_cluster_are_quiet(tensorflow, tmp_path):
    environment = tensorflow(EXPECTED)
    (tmp_path / "mine.py").write_text(
        "import importlib.util\n"
        "from tf_image_classification import train_estimator\n"
        "importlib.util.find_spec('tensorflow')\n"
        "train_estimator.evaluate(None)\n"
    )
    words = [sys.executable, str(tmp_path / "mine.py"), "--eval_metadata", "x"]
    assert started(words, env=environment).stderr == "DataError: the end\n"
    assert NOISE in started([*words, "--verbose"], env=environment).stderr
    launch = [*TFIC, "launch", "--workers", "2", "--grace_secs", "1"]
    quiet_tasks = started([*launch, "--", *words], env=environment)
    assert "[worker 1] DataError" in quiet_tasks.stdout and NOISE not in quiet_tasks.stdout
    for command in ([*launch, "-v", "--", *words], [*launch, "--", *words, "--verbose"]):
        assert f"[worker 1] {NOISE} 0" in started(command, env=environment).stdout


def test_processes_of_a_pool_are_quiet_too(tensorflow, tmp_path):
    (tmp_path / "pooled.py").write_text(
        "from tf_image_classification.system import quiet\n"
        "from tf_image_classification.system.process_pool import process_pool\n"
        "def work(number):\n    import tensorflow\n    return number\n"
        "if __name__ == '__main__':\n"
        "    for is_hiding in (True, False):\n"
        "        quiet.hide_libraries(is_hiding)\n"
        "        with process_pool(1) as pool:\n"
        "            print(*pool.map(work, [1]), flush=True)\n"
    )
    done = started([sys.executable, str(tmp_path / "pooled.py")], env=tensorflow("pass"))
    assert done.stdout.split() == ["1", "1"]
    assert done.stderr == f"{NOISE} 0\n"


def test_an_error_of_tensorflow_without_a_message_of_ours_names_the_flag(capsys):
    with pytest.raises(tf.errors.InternalError), ends_the_process():
        raise tf.errors.InternalError(None, None, "DNN library initialization failed")
    assert "--verbose shows its own messages" in capsys.readouterr().err


def test_every_command_that_runs_a_library_has_the_flag():
    for verb in set(VERBS) - {"backbones", "submit", "completion", "example"}:
        module = importlib.import_module(f"tf_image_classification.cli.{verb.replace('-', '_')}")
        assert "v" in module.main.shared_options()["verbose"].aliases, verb
