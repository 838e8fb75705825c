"""FTRL-Proximal with a learning-rate schedule, starting from the initial or loaded weights.

With step sizes η_t = rate_t / accumulator_t ** -power the weights minimise, over all steps,

    Σ gradient · w  +  ½ Σ (1/η_t - 1/η_{t-1}) ‖w - w_t‖²  +  l1 ‖w‖₁  +  l2 ‖w‖²

(McMahan et al., KDD 2013, equation 1 and algorithm 1). Keras's rule applies the current rate to all
previous steps, so that a rate that decays to 0 also shrinks the weights to 0, and it starts from
0, whatever the initial or loaded weights. At a constant rate, from 0, both are the same.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops


class Ftrl(keras.optimizers.Ftrl):
    """FTRL-Proximal; its arguments are those of ``keras.optimizers.Ftrl``.

    The slot ``linear`` holds z + w / η in the paper's notation, the accumulated effect of the
    penalties. Without penalties it is 0, and the rule is Adagrad's.
    """

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Update one variable."""
        index = self._get_variable_index(variable)
        accumulator, pull = self._accumulators[index], self._linears[index]
        l1, l2 = self.l1_regularization_strength, self.l2_regularization_strength
        gradient = ops.cast(gradient, variable.dtype)
        self.assign_add(accumulator, ops.square(gradient))
        power = ops.power(accumulator, self.learning_rate_power)
        step = ops.cast(learning_rate, variable.dtype) * power
        total = pull + gradient
        free = variable - step * total  # -z · step
        new = ops.sign(free) * ops.maximum(ops.abs(free) - step * l1, 0.0) / (1 + 2 * step * l2)
        at_zero = ops.clip(
            total - ops.divide_no_nan(ops.convert_to_tensor(variable), step), -l1, l1
        )
        self.assign(pull, ops.where(new == 0, at_zero, -(l1 * ops.sign(new) + 2 * l2 * new)))
        self.assign(variable, new)
