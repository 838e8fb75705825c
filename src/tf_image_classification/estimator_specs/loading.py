"""Specs named as ``module:Class`` or ``file.py:Class``: loading them, and the source of a spec."""

from __future__ import annotations

import contextvars
import hashlib
import importlib
import importlib.util
import os
import sys
import traceback
from types import ModuleType

from tf_image_classification import tf1_code
from tf_image_classification.errors import SpecError, TficError, did_you_mean
from tf_image_classification.estimator_specs.spec import EstimatorSpec
from tf_image_classification.system import files


def spec_name(spec: EstimatorSpec) -> str:
    """The name of a spec's class, as module:Class or file.py:Class."""
    return f"{source_path(spec) or type(spec).__module__}:{type(spec).__name__}"


def source_digest(spec: EstimatorSpec) -> str:
    """SHA-256 of the file that defines a spec's class, hexadecimal.

    "" without a file, and for the package's own spec, which its settings describe.
    """
    is_ours = type(spec).__module__.partition(".")[0] == __name__.partition(".")[0]
    path = "" if is_ours else source_path(spec)
    return hashlib.sha256(files.read_bytes(path)).hexdigest() if path else ""


def source_path(spec: EstimatorSpec) -> str:
    """The path of the file that defines a spec's class, or ""."""
    path = getattr(sys.modules.get(type(spec).__module__), "__file__", None) or ""
    return os.path.abspath(path) if os.path.isfile(path) else ""


_loading: contextvars.ContextVar[bool] = contextvars.ContextVar("loading", default=False)


def is_loading_a_spec() -> bool:
    """Whether a user's module is being imported for its spec, and not run as a program."""
    return _loading.get()


def load_spec(reference: str) -> EstimatorSpec:
    """The spec of ``module:Class`` or ``path/to/file.py:Class``, constructed.

    Raises:
        SpecError: the module, file or class does not exist, cannot be imported or constructed, or
            is no ``EstimatorSpec``.
    """
    place, _, name = reference.rpartition(":")
    if not place:
        raise SpecError(f"The spec is {reference!r}, expected module:Class or file.py:Class.")
    token = _loading.set(True)
    try:
        module = _load_file(place) if place.endswith(".py") else _load_module(place)
    finally:
        _loading.reset(token)
    spec_class = getattr(module, name, None)
    if spec_class is None:
        raise SpecError(f"{place} has no {name!r}. {did_you_mean(name, dir(module))}")
    if not (isinstance(spec_class, type) and issubclass(spec_class, EstimatorSpec)):
        raise SpecError(f"{reference} is not a subclass of EstimatorSpec.")
    try:
        return spec_class()
    except TypeError as error:
        raise SpecError(f"{reference} cannot be constructed: {error}.") from error
    except TficError:
        raise
    except Exception as error:
        raise SpecError(
            f"{reference} cannot be constructed: {type(error).__name__}: {error}."
        ) from error


def _load_file(path: str) -> ModuleType:
    module_name = os.path.splitext(os.path.basename(path))[0]
    found = importlib.util.spec_from_file_location(module_name, path)
    if found is None or found.loader is None or not os.path.exists(path):
        raise SpecError(f"There is no file {path!r} to take a spec from.")
    module = importlib.util.module_from_spec(found)
    sys.modules[module_name] = module
    sys.path.insert(0, os.path.dirname(os.path.abspath(path)))
    try:
        found.loader.exec_module(module)
    except TficError:
        raise
    except Exception as error:
        raise SpecError(f"Importing {path!r} failed: {_cause(error, path)}") from error
    return module


def _cause(error: Exception, path: str) -> str:
    """The error in a user's file with its line, and a hint for TensorFlow 1 code."""
    if isinstance(error, SyntaxError):
        return f"line {error.lineno}: {error.msg}. Correct it."
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == os.path.abspath(path)]
    lines = lines or [frame.lineno for frame in frames if frame.filename == path]
    where = f"line {lines[-1]}: " if lines else ""
    text = f"{where}{type(error).__name__}: {str(error).rstrip('.')}."
    if tf1_code.find(path):
        text += f" It has TensorFlow 1 code: tfic check-spec {path}:Class names every line of it."
    return text


def _load_module(name: str) -> ModuleType:
    sys.path.insert(0, os.getcwd())
    try:
        return importlib.import_module(name)
    except TficError:
        raise
    except Exception as error:
        hint = " Write file.py:Class for a file." if os.path.exists(f"{name}.py") else ""
        kind = "" if isinstance(error, ModuleNotFoundError) else f"{type(error).__name__}: "
        raise SpecError(f"Importing {name!r} failed: {kind}{error}.{hint}") from error
