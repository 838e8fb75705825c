"""``tfic VERB ...``: the command, which runs the module of the verb."""

from __future__ import annotations

import atexit
import contextlib
import importlib
import logging
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import tf_image_classification
from tf_image_classification.errors import did_you_mean
from tf_image_classification.system import signals, streams

VERBS = {
    "train": "train a spec or a built-in backbone; resume, plan or evaluate its run",
    "evaluate": "evaluate the model of a model folder on any data",
    "report": "write an HTML report and a model card",
    "cross-validate": "train and evaluate on every fold of a data set, with one pooled result",
    "compare": "test whether one model is better than another",
    "combine": "combine several models: mean of their weights or of their predictions",
    "predict": "run inference on images",
    "export": "export a model to another format, verified against its evaluation",
    "serve": "serve a model over HTTP, with a page for trying out images",
    "launch": "run a command as every task of a cluster on this machine",
    "tune": "search for hyperparameters",
    "convert": "convert a data set to sharded TFRecords",
    "inspect": "check images and labels, with an HTML page",
    "label-next": "choose which images to label next",
    "forecast": "forecast the accuracy with more labels",
    "preview": "draw training images after augmentation",
    "find-learning-rate": "learning-rate range test",
    "find-batch-size": "throughput by batch size",
    "backbones": "list the built-in backbones",
    "submit": "send a training to Vertex AI or Kubernetes",
    "check-spec": "validate an EstimatorSpec",
    "example": "draw a small data set to try the program with",
    "completion": "print a completion script for a shell",
}
"""Summary of each verb, which is the module of this name."""


_RESUMES = {
    "train": "Start the same command again to train.",
    "cross-validate": "Start the same command again to continue the cross-validation.",
    "tune": "Start the same command again to continue the study.",
    "convert": "Start the same command again: the shards that are complete are kept.",
    "launch": "Start the same command again to resume.",
}
"""Verbs that resume after they were stopped, with the advice to do so."""

STATUSES = {
    "0": "success",
    "1": "an error of the run, e.g. in data or model folder; a failed check; findings",
    "2": "usage error: unknown verb or flag, wrong value, missing argument, flag without effect",
    "3": "the claim of a release gate is not shown (`tfic compare`)",
    "75": "interrupted, and the same command resumes",
    "128+N": "stopped by signal N; the same command starts from the beginning",
}
"""Meaning of each exit status."""

_OTHER_WORDS = {
    **dict.fromkeys(("fit", "finetune", "fine-tune", "resume", "run", "start"), "train"),
    **dict.fromkeys(("test", "validate", "val", "score"), "evaluate"),
    **dict.fromkeys(("infer", "inference", "classify", "label"), "predict"),
    **dict.fromkeys(("deploy", "server", "api"), "serve"),
    **dict.fromkeys(("search", "hpo", "sweep", "optimize"), "tune"),
    **dict.fromkeys(("models", "list", "networks", "zoo"), "backbones"),
    **dict.fromkeys(("check", "lint", "analyze", "analyse", "audit", "stats"), "inspect"),
    **dict.fromkeys(
        ("cv", "crossval", "cross-val", "crossvalidate", "kfold", "k-fold", "folds"),
        "cross-validate",
    ),
    **dict.fromkeys(("plan", "dry-run"), "train --plan"),
    **dict.fromkeys(("demo", "sample", "samples", "quickstart", "tutorial", "init"), "example"),
    **dict.fromkeys(("soup", "ensemble", "merge", "average", "swa", "blend"), "combine"),
    "lr-find": "find-learning-rate",
}
"""Names of the verbs in other programs."""

_FOR_THEIR_OUTPUT = ("predict", "backbones", "submit", "completion")
"""Verbs that end when standard output is closed; the others complete their work."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a verb; returns the process's exit status.

    Without arguments this is the process ``tfic`` itself.
    """
    streams.prepare()
    if arguments is not None:
        return _guarded(arguments)
    _log_plainly()
    atexit.register(signals.ignore)  # the first to be registered is the last to be called
    status = 1
    try:
        status = _guarded(sys.argv[1:])
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
        raise
    finally:
        signals.ending_with(status)
    return status


def _log_plainly() -> None:
    """Show our own log lines as they are; a handler that a library sets would prefix them."""
    log = logging.getLogger(tf_image_classification.__name__)
    if logging.lastResort is not None:
        log.addHandler(logging.lastResort)
        log.propagate = False


def _guarded(arguments: Sequence[str]) -> int:
    """Run a verb; a signal ends it with one line and a status."""
    verb = arguments[0] if arguments else ""
    again = _RESUMES.get(verb, "")
    with signals.handled(), signals.stage("", again=again, resumes=verb in _RESUMES):
        try:
            return _with_output(arguments)
        except BaseException as error:
            stopped = signals.cause_of(error)
            if stopped is None:
                raise
            signals.tell_last(str(stopped))
            return stopped.exit_code


def _with_output(arguments: Sequence[str]) -> int:
    """Run a verb; a standard output that is closed or full ends it with the right status."""
    try:
        return _run(arguments)
    except BrokenPipeError:  # the reader, such as head, has enough
        streams.discard_output()
        return 0
    except OSError as error:
        if error.filename is not None:
            raise
        streams.discard_output()
        _refuse_output(str(error.strerror))
    finally:
        problem = streams.flush_output()
        if problem:
            _refuse_output(problem)


def _refuse_output(problem: str) -> NoReturn:
    print(f"Standard output cannot be written: {problem}.", file=sys.stderr)
    raise SystemExit(1) from None


def _run(arguments: Sequence[str]) -> int:
    if len(arguments) > 1 and arguments[0] == "help":
        arguments = [arguments[1], "--help"]
    if not arguments or arguments[0] in ("-h", "--help", "-help", "help"):
        print(_help())
        return 0
    verb, rest = arguments[0].lower().replace("_", "-"), arguments[1:]
    if verb in ("--version", "-version", "-v", "version"):
        print(f"tfic {tf_image_classification.__version__}")
        return 0
    if verb not in VERBS:
        print(f"tfic: {_unknown(arguments[0], rest)}", file=sys.stderr)
        return 2
    module = importlib.import_module(f"tf_image_classification.cli.{verb.replace('-', '_')}")
    with contextlib.nullcontext() if verb in _FOR_THEIR_OUTPUT else streams.may_end():
        return int(module.main(rest))


def _unknown(word: str, rest: Sequence[str]) -> str:
    """The message for a first word that is not a verb."""
    if word.startswith("-"):
        return (
            f"{word} stands before the verb. Write tfic VERB {word} ..., as in tfic train --help."
        )
    if word.lower() == "classify" and rest[:1] and rest[0] in {*VERBS, *_OTHER_WORDS}:
        return f"unknown verb {word!r}. Write tfic {_OTHER_WORDS.get(rest[0], rest[0])}."
    if word.lower() in _OTHER_WORDS:
        return f"unknown verb {word!r}. Write tfic {_OTHER_WORDS[word.lower()]}."
    if word.endswith(".py"):
        line = " ".join(["python", word, *rest])
        return f"{word} is a program, not a verb. Write {line}, or tfic train --spec {word}:Class."
    if os.path.exists(word):
        return f"{word} is not a verb. Write, for instance, tfic inspect {word}. See tfic --help."
    return f"unknown verb {word!r}. {did_you_mean(word, VERBS)}"


def _help() -> str:
    lines = ["usage: tfic VERB [--help] ...", "", "verbs:"]
    lines += [f"  {verb:<20} {summary}" for verb, summary in VERBS.items()]
    lines += [
        "",
        "flags: --model_dir or --model-dir, --flag value or --flag=value; --flag, --noflag",
    ]
    lines += ["", "exit status:"]
    lines += [f"  {status:<6} {meaning}" for status, meaning in STATUSES.items()]
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
