"""The errors of this package, and texts for their messages.

    TficError
    ├── ConfigError          a setting is unknown, out of range, contradictory or without effect
    │   └── UsageError       a command line cannot be understood
    ├── SpecError            a subclass of EstimatorSpec breaks a promise
    ├── DataError            a source of examples cannot be used
    │   ├── LabelError       a label is unknown, out of range or of the wrong form
    │   ├── BadRecordError   a TFRecord file or one of its records is damaged
    │   └── BadImageError    an image cannot be decoded or is too large
    ├── CheckpointError      a checkpoint cannot be written, found or read
    ├── ExportError          a model cannot be written in a format
    ├── ParityError          an exported file's predictions differ from the evaluation's
    ├── RunMismatchError     the model folder belongs to another run
    ├── NonFiniteLossError   the loss became NaN or infinite
    ├── WorkerLostError      another process of the cluster has ended or never started
    └── RunInterrupted       the run was asked to stop, saved its state and can be resumed

A message names the action, the value that was found (with its file, record or row), the expected
value, and what to do.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

_MAX_CHARS = 400  # of another library's message


class TficError(Exception):
    """Base of every error raised on purpose; the command line prints it without a traceback.

    Do what the last sentence of its message advises.
    """

    exit_code = 1
    """The process's exit status; 75 (``EX_TEMPFAIL`` of sysexits.h): the same command resumes."""


class ConfigError(TficError, ValueError):
    """A setting is unknown, out of range, contradictory or without effect.

    Change or remove the setting that the message names, where its origin says that it was given.
    """


class UsageError(ConfigError):
    """A command line cannot be understood: an unknown flag, a wrong value, a missing argument.

    Correct the command line; ``tfic VERB --help`` lists the flags.
    """

    exit_code = 2


class SpecError(TficError):
    """A subclass of ``EstimatorSpec`` breaks a promise of its contract.

    Change the spec as the message describes; ``tfic check-spec`` lists every problem at once.
    """


class DataError(TficError):
    """A source of examples cannot be used.

    Correct the file or the row that the message names; ``tfic inspect`` lists all problems of a
    data set.
    """


class LabelError(DataError):
    """A label is unknown, out of range or of the wrong form.

    Correct the label, or name the classes with ``--labels`` or their kind with ``--label_kinds``.
    """


class BadRecordError(DataError):
    """A TFRecord file or one of its records is damaged.

    Copy or write the file again; the message names the record.
    """


class BadImageError(DataError):
    """An image cannot be decoded or has more pixels than allowed.

    Repair, convert or remove the image; ``--on_bad_image skip`` leaves it out and lists it.
    """


class CheckpointError(TficError):
    """A checkpoint cannot be written, found or read.

    Free disk space, restore the file from a copy, or name the right file or folder.
    """


class ExportError(TficError):
    """A model cannot be written in a format, or not to this place.

    Remove the cause and run the same export again; earlier files are unchanged.
    """


class ParityError(TficError):
    """An exported file's predictions differ from the evaluation's.

    The file was not kept. Choose another format or quantisation, or raise the limit that the
    message names.
    """


class RunMismatchError(TficError):
    """The model folder belongs to another spec, other data or other settings.

    Give another ``--model_dir``; or ``--allow_changes`` to continue with the differences.
    """


class NonFiniteLossError(TficError):
    """The loss became NaN or infinite; the last checkpoint is from before that.

    Lower the learning rate, or clip gradients with ``--gradient_clip_norm``.
    """


class WorkerLostError(TficError):
    """Another process of the cluster has ended or never started; the run can be resumed.

    Start the same command again on all workers; ``tfic launch --max_restarts`` does so.
    """

    exit_code = 75


class RunInterrupted(TficError):
    """The run was asked to stop, has saved its state and continues when started again.

    Start the same command again.
    """

    exit_code = 75


def counted(count: int, one: str, many: str = "") -> str:
    """A number with the singular or plural of a word: "1 image", "2 images".

    Example:
        >>> counted(1, "image"), counted(3, "class is", "classes are")
        ('1 image', '3 classes are')
    """
    return f"{count} {one if count == 1 else many or one + 's'}"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A sentence with the known names that are similar to a name, or with all of them.

    Example:
        >>> did_you_mean("adm", ["adam", "sgd"])
        'Did you mean adam?'
    """
    known = sorted(known)
    if not known:
        return "There are none."
    return nearest(name, known).lstrip() or f"Known: {', '.join(known)}."


def nearest(name: str, known: Iterable[str]) -> str:
    """A sentence with similar known names, after a space; "" without any."""
    near = difflib.get_close_matches(name, sorted(known), n=3, cutoff=0.6)
    return f" Did you mean {' or '.join(near)}?" if near else ""


def brief(error: BaseException) -> str:
    """The kind of another library's error and the first sentence of its message.

    Example:
        >>> brief(ValueError("no such layer."))
        'ValueError: no such layer'
    """
    kind, message = type(error).__name__, short_message(error)
    return message if message.startswith(kind) else f"{kind}: {message}"


def short_message(error: BaseException) -> str:
    """The first sentence of another library's message, in a line of at most 400 characters.

    The frames, node names and colours of TensorFlow and Keras, and a final full stop, are removed.

    Example:
        >>> short_message(ValueError("{{function_node f}} a; No space left on device [Op:SaveV2]"))
        'a; No space left on device'
    """
    text = re.sub(r"\x1b\[[0-9;]*m|\{\{[^}]*\}\} *|\[Op:\w+\]", "", str(error))
    lines = [line.strip() for line in text.strip().splitlines()]
    if lines[:1] == ["in user code:"]:
        frames = [i for i, line in enumerate(lines) if line.startswith("File ")]
        lines = lines[frames[-1] + 2 :] if frames else lines  # a frame is two lines
        lines = [line for line in lines if line]
    if lines and lines[0].startswith("Exception encountered when calling"):
        lines = [line for line in lines[1:] if line] or lines
    sentence = lines[0] if lines else ""
    for line in lines[1:]:
        if not line or sentence.endswith((".", ":", "!", "?")):
            break
        sentence += f" {line}"
    return sentence.rstrip(". ") if len(sentence) <= _MAX_CHARS else f"{sentence[:_MAX_CHARS]} ..."
