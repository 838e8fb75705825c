"""Layers that cache constants of their variables: refreshed after an assignment.

model.variables[0].assign(value)
refresh(model)
"""

from __future__ import annotations

import keras


def refresh(model: keras.Model) -> None:
    """Make ``keras.layers.Normalization`` layers use the current values of their variables.

    Keras turns them into constants when the layer is adapted, and does not read them again.
    """
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()
