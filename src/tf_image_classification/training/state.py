"""The variables of a run, saved and restored as a whole."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tf_image_classification.checkpoints.adapted_layers import refresh
from tf_image_classification.checkpoints.name_maps import SEED_STATE
from tf_image_classification.errors import CheckpointError


@dataclasses.dataclass(frozen=True)
class TrainState:
    """The variables of a run.

    Attributes:
        model: the Keras model.
        optimizer: the Keras optimizer, built on the trained variables.
        trained: the variables that the optimizer updates.
        step: int64 scalar, steps done.
        loss_sum: float64 scalar, losses summed since the last summary.
        loss_count: int64 scalar, steps in ``loss_sum``.
        bad_step: int64 scalar, first step whose loss was not finite, or -1.
        log_variances: by label name the variable of its learned loss weight (see
            ``optim.losses``); they are among ``trained``. Empty without learned weights.
        averages: moving average of each floating-point variable of the model by path, or empty.
    """

    model: keras.Model
    optimizer: keras.optimizers.Optimizer
    trained: list[keras.Variable]
    step: tf.Variable
    loss_sum: tf.Variable
    loss_count: tf.Variable
    bad_step: tf.Variable
    averages: Mapping[str, tf.Variable]
    log_variances: Mapping[str, keras.Variable] = dataclasses.field(default_factory=dict)

    def variables(self) -> dict[str, tf.Variable]:
        """The variables in a checkpoint, by their names there.

        Without the states of random layers: each step sets them from its number.
        """
        named: dict[str, tf.Variable] = {
            "step": self.step,
            "loss_sum": self.loss_sum,
            "loss_count": self.loss_count,
        }
        named |= {f"model/{v.path}": v.value for v in model_variables(self.model)}
        named |= {f"optimizer/{v.path}": v.value for v in self.optimizer.variables}
        named |= {f"average/{path}": value for path, value in self.averages.items()}
        named |= {f"log_variance/{name}": v.value for name, v in self.log_variances.items()}
        return named

    def restore(self, tensors: Mapping[str, npt.NDArray[Any]]) -> None:
        """Set every variable to its saved value.

        Raises:
            CheckpointError: names or shapes differ; lists the first differences.
        """
        variables = self.variables()
        differences = [
            f"{name} is not in the checkpoint" for name in variables if name not in tensors
        ]
        differences += [f"{name} is not in the model" for name in tensors if name not in variables]
        differences += [
            f"{name} has shape {tuple(tensors[name].shape)}, expected {tuple(variable.shape)}"
            for name, variable in variables.items()
            if name in tensors and tuple(tensors[name].shape) != tuple(variable.shape)
        ]
        if differences:
            raise CheckpointError(
                "The checkpoint is of another model or optimizer "
                f"({len(differences)} differences): "
                + "; ".join(differences[:5])
                + ". Use the spec and settings it was made with, or another model_dir."
            )
        for name, variable in variables.items():
            variable.assign(tensors[name])
        refresh(self.model)

    def take_mean_loss(self) -> float:
        """The mean loss since the last call of this method; NaN before the first step."""
        count = int(self.loss_count.numpy())
        mean = float(self.loss_sum.numpy()) / count if count else float("nan")
        self.loss_sum.assign(0.0)
        self.loss_count.assign(0)
        return mean

    def begin_averages(self) -> None:
        """Restart the averages at the model's current weights."""
        for variable in _averaged_variables(self.model) if self.averages else ():
            self.averages[variable.path].assign(variable.value.read_value())

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """Inside the block the model has its averaged weights, if averages are kept."""
        if not self.averages:
            yield
            return
        own = {v.path: np.asarray(v.numpy()) for v in _averaged_variables(self.model)}
        try:
            for variable in _averaged_variables(self.model):
                variable.value.assign(self.averages[variable.path].numpy())
            yield
        finally:
            for variable in _averaged_variables(self.model):
                variable.value.assign(own[variable.path])


def make_state(
    model: keras.Model,
    optimizer: keras.optimizers.Optimizer,
    trained: list[keras.Variable],
    *,
    with_averages: bool,
    log_variances: Mapping[str, keras.Variable] | None = None,
) -> TrainState:
    """The state of a new run; call it inside the scope of the strategy.

    Args:
        model: the model, built.
        optimizer: the optimizer, built on ``trained``.
        trained: the variables to train.
        with_averages: whether moving averages of the weights are kept.
        log_variances: as in ``TrainState``.
    """

    def number(value: int, dtype: tf.DType, name: str) -> tf.Variable:
        return _shared_variable(tf.constant(value, dtype), name)

    averages = {
        v.path: _shared_variable(v.value.read_value(), f"average/{v.path}")
        for v in (_averaged_variables(model) if with_averages else ())
    }
    return TrainState(
        model=model,
        optimizer=optimizer,
        trained=trained,
        step=number(0, tf.int64, "step"),
        loss_sum=number(0, tf.float64, "loss_sum"),
        loss_count=number(0, tf.int64, "loss_count"),
        bad_step=number(-1, tf.int64, "bad_step"),
        averages=averages,
        log_variances=log_variances or {},
    )


def _shared_variable(value: tf.Tensor, name: str) -> tf.Variable:
    return tf.Variable(
        value,
        trainable=False,
        name=name,
        aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
    )


def model_variables(model: keras.Model) -> list[keras.Variable]:
    """The model's variables without the states of its random layers.

    Raises:
        CheckpointError: two variables have the same path.
    """
    variables = [v for v in model.variables if not v.path.endswith(SEED_STATE)]
    paths = [v.path for v in variables]
    repeated = sorted({path for path in paths if paths.count(path) > 1})
    if repeated:
        raise CheckpointError(
            f"More than one variable of the model is called {', '.join(repeated[:3])}. "
            "Give the layers different names."
        )
    return variables


def seed_states(model: keras.Model) -> list[keras.Variable]:
    """The states of the model's random layers, e.g. dropout."""
    return [v for v in model.variables if v.path.endswith(SEED_STATE)]


def statistics(model: keras.Model) -> list[keras.Variable]:
    """Variables that the forward pass updates in training, e.g. the batch norm statistics.

    Without the kernels of frozen layers, although Keras counts them as non-trainable too.
    """
    return [
        variable
        for layer in model._flatten_layers()
        if layer.trainable
        for variable in layer._non_trainable_variables
        if tf.as_dtype(variable.dtype).is_floating
    ]


def _averaged_variables(model: keras.Model) -> list[keras.Variable]:
    return [v for v in model_variables(model) if tf.as_dtype(v.dtype).is_floating]
