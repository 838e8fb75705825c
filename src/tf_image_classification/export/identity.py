"""Which exported model a file was made from; without TensorFlow."""

from __future__ import annotations

import hashlib

from tf_image_classification.system import files


def saved_model_fingerprint(path: str) -> str:
    """A hash of a SavedModel's graph and weights, whose checksums are in their index."""
    digest = hashlib.sha256()
    for part in ("saved_model.pb", "variables/variables.index"):
        digest.update(files.read_bytes(files.join(path, part)))
    return digest.hexdigest()
