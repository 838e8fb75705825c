"""Which exported models get constants in place of their variables when they are loaded.

Needs no TensorFlow, so that the answer can decide how TensorFlow starts.
"""

from __future__ import annotations

from tf_image_classification.system import files

MAX_CONSTANT_BYTES = 2**25
"""Largest weights that become constants: TensorFlow copies them ten times until the first call."""


def has_small_weights(path: str) -> bool:
    """Whether the weights of a SavedModel become constants; False for a missing one.

    Args:
        path: its folder.
    """
    folder = files.join(path, "variables")
    names = files.list_folder(folder, missing_ok=True)
    sizes = [files.size_and_time(files.join(folder, name))[0] for name in names]
    return 0 < sum(sizes) <= MAX_CONSTANT_BYTES
