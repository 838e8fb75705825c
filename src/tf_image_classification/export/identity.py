"""Hashes of exported models and of the files that are made from them; without TensorFlow."""

from __future__ import annotations

import hashlib

from tf_image_classification.system import files

_CHUNK_BYTES = 2**20


def file_fingerprint(path: str) -> str:
    """SHA-256 of a file's content, hexadecimal; read in pieces."""
    digest = hashlib.sha256()
    with files.open_for_reading(path) as stream:
        while piece := stream.read(_CHUNK_BYTES):
            digest.update(piece)
    return digest.hexdigest()


def saved_model_fingerprint(path: str) -> str:
    """A hash of a SavedModel's graph and weights, whose checksums are in their index."""
    digest = hashlib.sha256()
    for part in ("saved_model.pb", "variables/variables.index"):
        digest.update(files.read_bytes(files.join(path, part)))
    return digest.hexdigest()
