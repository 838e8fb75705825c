"""Layers that compute with what they made of their variables, after the variables were assigned.

model.variables[0].assign(value)
refresh(model)
"""

from __future__ import annotations

import keras


def refresh(model: keras.Model) -> None:
    """Let ``keras.layers.Normalization`` compute with its variables' present values.

    Keras makes constants of them when the layer is adapted, and looks at the variables no more.
    """
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()
