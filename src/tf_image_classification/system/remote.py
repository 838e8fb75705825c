"""Files in a bucket, through ``tf.io.gfile``, with errors that name the path and the remedy."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from typing import Any

from tf_image_classification.errors import DataError

_SIGN_IN = (
    "Give the account that runs this the role Storage Object User on the bucket, or sign in: "
    "gcloud auth application-default login, or GOOGLE_APPLICATION_CREDENTIALS=key.json."
)


class RemotePath:
    """TensorFlow's file functions on one remote path.

    Functions of ``tf.io.gfile`` are called with the path as their first argument.

    Raises:
        DataError: at construction, when TensorFlow cannot read the scheme; in every method, when
            access is denied, the bucket does not exist, or it cannot be reached.
    """

    def __init__(self, path: str) -> None:
        import tensorflow as tf  # late: local paths must not pay for it

        scheme = path.partition("://")[0]
        if scheme not in tf.io.gfile.get_registered_schemes():
            known = "This TensorFlow has no access to gs://, as on Windows and macOS: run on Linux"
            raise DataError(
                f"{path}: {known}, or copy the files with gcloud storage cp."
                if scheme == "gs"
                else f"{path}: {scheme}:// cannot be read. Use gs:// or local files."
            )
        self._path = path
        self._gfile = tf.io.gfile
        self._errors = tf.errors

    def __getattr__(self, name: str) -> Any:
        function = getattr(self._gfile, name)

        def call(*arguments: Any, **more: Any) -> Any:
            with self._named_errors():
                return function(self._path, *arguments, **more)

        return call

    @contextlib.contextmanager
    def _named_errors(self) -> Iterator[None]:
        """Inside the block an error of TensorFlow becomes a DataError that names the path."""
        try:
            yield
        except self._errors.OpError as error:
            message = " ".join(error.message.split())
            denied = (self._errors.PermissionDeniedError, self._errors.UnauthenticatedError)
            reason = message[:300]
            if isinstance(error, denied):
                reason = f"access is denied. {_SIGN_IN}"
            elif "bucket does not exist" in message:
                reason = "there is no such bucket. Correct its name."
            raise DataError(f"{self._path}: {reason}") from error

    def make_folder(self) -> None:
        """Create the folder, and check that it can be written."""
        scheme, _, rest = self._path.partition("://")
        bucket = f"{scheme}://{rest.partition('/')[0]}/"
        probe = f"{self._path.rstrip('/')}/.writable-{os.urandom(16).hex()}"
        with self._named_errors():
            # TensorFlow would retry for ever without the bucket.
            if scheme == "gs" and not self._gfile.exists(bucket):
                raise DataError(f"{self._path}: there is no such bucket. Create it, or correct it.")
            self._gfile.makedirs(self._path)
            with self._gfile.GFile(probe, "wb") as stream:
                stream.write(b"")
            self._gfile.remove(probe)

    def upload(self, local_path: str) -> None:
        """Copy a local file here."""
        with self._named_errors():
            self._gfile.copy(local_path, self._path, overwrite=True)

    def download(self, local_path: str) -> None:
        """Copy this file to the machine.

        Raises:
            FileNotFoundError: the file does not exist.
        """
        with self._named_errors():
            try:
                self._gfile.copy(self._path, local_path, overwrite=True)
            except self._errors.NotFoundError as error:
                raise FileNotFoundError(f"There is no file {self._path}.") from error

    def names(self, *, missing_ok: bool) -> list[str]:
        """The names in the folder."""
        with self._named_errors():
            try:
                return list(self._gfile.listdir(self._path))
            except self._errors.NotFoundError:
                # TensorFlow raises it for other failures too; only ``exists`` is reliable.
                if missing_ok and not self._gfile.exists(self._path):
                    return []
                raise

    def matches(self, pattern: str) -> list[str]:
        """The files below this folder whose paths match a pattern with ``**``."""
        expression = _pattern_expression(pattern)
        with self._named_errors():
            return [
                path
                for folder, _, names in self._gfile.walk(self._path)
                for name in names
                if expression.fullmatch(path := f"{folder.rstrip('/')}/{name}")
            ]

    def remove_file(self) -> None:
        """Remove a file; one that does not exist is fine."""
        with self._named_errors(), contextlib.suppress(self._errors.NotFoundError):
            self._gfile.remove(self._path)

    @contextlib.contextmanager
    def open(self, mode: str) -> Iterator[Any]:
        """A stream; an error may appear only when it is closed."""
        with self._named_errors(), self._gfile.GFile(self._path, mode) as stream:
            yield stream


def _pattern_expression(pattern: str) -> re.Pattern[str]:
    """A glob pattern as a regular expression; ``**/`` stands for any number of folders.

    >>> bool(_pattern_expression("a/**/[!x]?.png").fullmatch("a/b/c/yz.png"))
    True
    """
    words = {"**/": "(?:[^/.][^/]*/)*", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    parts = re.split(r"(\*\*/|\*\*|\*|\?|\[!?\]?[^]]*\])", pattern)
    return re.compile(
        "".join(
            words.get(part, part.replace("[!", "[^") if part.startswith("[") else re.escape(part))
            for part in parts
        )
    )
