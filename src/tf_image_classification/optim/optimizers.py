"""Optimizers by name, each with the settings that apply to it.

    with strategy.scope():
        optimizer = make_optimizer(settings.optimizer, schedule, precision="float32")
        prepare(optimizer, variables)
    ...
    optimizer.apply(gradients, variables)  # in strategy.run; gradients already summed

The training step sums gradients over the replicas itself, because it clips them between the sum and
the update. These optimizers therefore do not sum gradients.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from tf_image_classification.config import OptimizerSettings
from tf_image_classification.errors import ConfigError, did_you_mean
from tf_image_classification.optim.ftrl import Ftrl
from tf_image_classification.optim.param_groups import decays

LearningRate = Any
"""A float, or a ``keras.optimizers.schedules.LearningRateSchedule``."""

Maker = Callable[[OptimizerSettings, LearningRate, float], Any]
"""Builds the Keras optimizer from the settings, the rate and the weight decay."""


@dataclasses.dataclass(frozen=True)
class OptimizerInfo:
    """One update rule.

    Attributes:
        name: what ``--optimizer`` takes.
        summary: one line for the documentation, with its source.
        default_weight_decay: decay when the setting ``weight_decay`` is not given.
        make: builds the Keras optimizer.
    """

    name: str
    summary: str
    default_weight_decay: float
    make: Maker


def make_optimizer(
    settings: OptimizerSettings, learning_rate: LearningRate, *, precision: str = "float32"
) -> Any:
    """The Keras optimizer of the settings; ``prepare`` it before the first step.

    Call it in the strategy's scope. Its variables have the same paths in every process, e.g.
    ``adamw/conv1_kernel_momentum``.

    Weight decay is decoupled from the gradient (Loshchilov & Hutter, arXiv 1711.05101): each step
    first multiplies a variable by ``1 - learning_rate * weight_decay``.

    Args:
        settings: the name and hyperparameters.
        learning_rate: a float or a schedule of ``optimizer.iterations``.
        precision: with "mixed_float16" the optimizer is wrapped in Keras's LossScaleOptimizer.
            Then pass the loss through ``optimizer.scale_loss``; gradients are multiplied by
            ``gradient_scale``, and a step with a gradient that is not finite is skipped and not
            counted in ``iterations``.

    Raises:
        ConfigError: the optimizer is unknown, a hyperparameter is out of its range, or the
            installed Keras does not have it.

    Example:
        >>> make_optimizer(OptimizerSettings(optimizer="lamb"), 1e-3).name
        'lamb'
    """
    info = find_optimizer(settings.optimizer)
    decay = settings.weight_decay
    if decay is None:
        decay = info.default_weight_decay
    try:
        optimizer = info.make(settings, learning_rate, decay)
    except ConfigError:
        raise
    except ValueError as error:  # Keras's own checks, such as lion's of beta_1
        raise ConfigError(f"optimizer {info.name} cannot be made so: {error}") from error
    if precision == "mixed_float16":
        return keras.optimizers.LossScaleOptimizer(optimizer, name="loss_scale")
    return optimizer


def prepare(optimizer: Any, variables: Sequence[Any]) -> None:
    """Create the optimizer's slots for these variables, and exclude some from the weight decay.

    Call it once, before training and restoring, in the strategy's scope. ``param_groups.decays``
    selects the variables with weight decay.

    Args:
        optimizer: from ``make_optimizer``.
        variables: those that will be trained; pass the same to ``optimizer.apply``.

    Raises:
        ConfigError: the optimizer has slots already; or its rule applies to none of the variables.
    """
    if optimizer.built:
        raise ConfigError(
            f"Optimizer {optimizer.name!r} already has its slots, so variables cannot be excluded "
            "from the weight decay any more. Prepare an optimizer before its first use."
        )
    undecayed = [variable for variable in variables if not decays(variable)]
    _inner(optimizer).exclude_from_weight_decay(var_list=undecayed)  # Keras wants it before build
    optimizer.build(list(variables))
    _check_muon(_inner(optimizer), variables)


def _check_muon(optimizer: Any, variables: Sequence[Any]) -> None:
    uses_adamw = getattr(optimizer, "_should_use_adamw", None)
    if uses_adamw is not None and all(map(uses_adamw, variables)):
        raise ConfigError(
            "optimizer muon would be adamw: no trained variable is the matrix of a dense layer, "
            "apart from layers with 'logits' in their name. Choose adamw."
        )


def gradient_scale(optimizer: Any) -> Any:
    """The factor of the gradients of ``optimizer.scale_loss(loss)``.

    Multiply limits of gradient clipping by it. 1.0, or under "mixed_float16" a float32 scalar that
    changes during the run.
    """
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        return tf.convert_to_tensor(optimizer.dynamic_scale.value)
    return 1.0


def register(info: OptimizerInfo) -> OptimizerInfo:
    """Add an update rule.

    Raises:
        ConfigError: the name is registered already.
    """
    if info.name in _OPTIMIZERS:
        raise ConfigError(f"Optimizer {info.name!r} is registered already. Choose another name.")
    _OPTIMIZERS[info.name] = info
    return info


def find_optimizer(name: str) -> OptimizerInfo:
    """The update rule of that name.

    Raises:
        ConfigError: the name is unknown; the message has similar names.
    """
    if name not in _OPTIMIZERS:
        raise ConfigError(f"Unknown optimizer {name!r}. {did_you_mean(name, _OPTIMIZERS)}")
    return _OPTIMIZERS[name]


def list_optimizers() -> tuple[OptimizerInfo, ...]:
    """All update rules, by name."""
    return tuple(_OPTIMIZERS[name] for name in sorted(_OPTIMIZERS))


_OPTIMIZERS: dict[str, OptimizerInfo] = {}
_OWN = {"Ftrl": Ftrl}


class _TakesSummedGradients:
    """Mixin for a Keras optimizer: does not sum gradients over the replicas.

    ``_all_reduce_sum_gradients`` is where Keras 3's TensorFlow optimizer sums them.
    """

    def _all_reduce_sum_gradients(self, grads_and_vars: Any) -> list[Any]:
        return list(grads_and_vars)


@functools.cache
def _without_summing(keras_class: type) -> Any:
    if not hasattr(keras_class, "_all_reduce_sum_gradients"):
        # Without this check gradients would silently be multiplied by the number of replicas.
        raise ConfigError(
            f"Keras {keras.__version__} on backend {keras.backend.backend()} does not sum "
            "gradients where this package expects it. Use Keras 3 up to 3.15 with TensorFlow."
        )
    return type(keras_class.__name__, (_TakesSummedGradients, keras_class), {})


def _inner(optimizer: Any) -> Any:
    """The optimizer without a wrapping LossScaleOptimizer."""
    return getattr(optimizer, "inner_optimizer", optimizer)


def _make(
    class_name: str, settings: OptimizerSettings, rate: LearningRate, decay: float, **rest: Any
) -> Any:
    """The Keras optimizer of that class, named after the setting so that its paths are stable."""
    keras_class = _without_summing(_OWN.get(class_name) or getattr(keras.optimizers, class_name))
    return keras_class(
        learning_rate=rate, weight_decay=decay or None, name=settings.optimizer, **rest
    )


def _maker(class_name: str, arguments: Callable[[OptimizerSettings], dict[str, Any]]) -> Maker:
    """The maker of a Keras optimizer whose arguments depend on the settings only."""

    def make(settings: OptimizerSettings, rate: LearningRate, decay: float) -> Any:
        return _make(class_name, settings, rate, decay, **arguments(settings))

    return make


def _make_muon(settings: OptimizerSettings, rate: LearningRate, decay: float) -> Any:
    muon = getattr(keras.optimizers, "Muon", None)
    # Before 3.13 Muon could not decay its AdamW part, and looked up slots by a name that variables
    # do not have under tf.distribute.
    if muon is None or "adam_weight_decay" not in inspect.signature(muon).parameters:
        raise ConfigError(
            f"optimizer muon needs Keras 3.13 or newer, found {keras.__version__}. "
            "Update Keras or choose another optimizer."
        )
    return _make(
        "Muon",
        settings,
        rate,
        decay,
        momentum=_or(settings.momentum, 0.95),
        adam_weight_decay=decay or None,
        exclude_layers=["logits"],
        **_betas(settings, "adam_beta_1", "adam_beta_2"),
        **_epsilon(settings),
    )


def _betas(settings: OptimizerSettings, first: str, second: str) -> dict[str, float]:
    """The decays of both moments, for rules that divide by 1 - beta ** step."""
    values = {"adam_beta1": settings.adam_beta1, "adam_beta2": settings.adam_beta2}
    for name, value in values.items():
        if value is not None and value >= 1:
            raise ConfigError(
                f"{name} is {value:g}, expected less than 1 with optimizer "
                f"{settings.optimizer}, which divides by 1 - {name} ** step."
            )
    return {
        first: _or(settings.adam_beta1, 0.9),
        second: _or(settings.adam_beta2, 0.999),
    }


def _or(given: float | None, published: float) -> float:
    return published if given is None else given


def _epsilon(settings: OptimizerSettings) -> dict[str, float]:
    """Nothing when it is not given: Keras's default is the published one."""
    return {} if settings.opt_epsilon is None else {"epsilon": settings.opt_epsilon}


def _adam_arguments(settings: OptimizerSettings) -> dict[str, float]:
    return _betas(settings, "beta_1", "beta_2") | _epsilon(settings)


for _info in (
    OptimizerInfo(
        "adadelta",
        "Adadelta (Zeiler, arXiv 1212.5701).",
        0.0,
        _maker("Adadelta", lambda s: {"rho": s.adadelta_rho, **_epsilon(s)}),
    ),
    OptimizerInfo(
        "adagrad",
        "Adagrad (Duchi et al., JMLR 12, 2011).",
        0.0,
        _maker(
            "Adagrad",
            lambda s: {
                "initial_accumulator_value": s.adagrad_initial_accumulator_value,
                **_epsilon(s),
            },
        ),
    ),
    OptimizerInfo(
        "adam", "Adam (Kingma & Ba, arXiv 1412.6980).", 0.0, _maker("Adam", _adam_arguments)
    ),
    OptimizerInfo(
        "adamw",
        "Adam with decoupled weight decay (Loshchilov & Hutter, arXiv 1711.05101).",
        0.05,
        _maker("Adam", _adam_arguments),  # Keras's Adam decays; its AdamW only has other defaults
    ),
    OptimizerInfo(
        "ftrl",
        "FTRL-Proximal (McMahan et al., KDD 2013).",
        0.0,
        _maker(
            "Ftrl",
            lambda s: {
                "learning_rate_power": s.ftrl_learning_rate_power,
                "initial_accumulator_value": s.ftrl_initial_accumulator_value,
                "l1_regularization_strength": s.ftrl_l1,
                "l2_regularization_strength": s.ftrl_l2,
            },
        ),
    ),
    OptimizerInfo(
        "lamb",
        "LAMB, for large batches (You et al., arXiv 1904.00962); its decay is decoupled too.",
        0.05,
        _maker("Lamb", _adam_arguments),
    ),
    OptimizerInfo(
        "lion",
        "Lion, the sign of a momentum (Chen et al., arXiv 2302.06675).",
        0.05,
        _maker(
            "Lion", lambda s: {"beta_1": _or(s.adam_beta1, 0.9), "beta_2": _or(s.adam_beta2, 0.99)}
        ),
    ),
    OptimizerInfo(
        "momentum",
        "Gradient descent with momentum, on request Nesterov's.",
        4e-5,
        _maker("SGD", lambda s: {"momentum": _or(s.momentum, 0.9), "nesterov": s.nesterov}),
    ),
    OptimizerInfo(
        "muon",
        "Muon for the matrices of dense layers; AdamW for all other variables and for layers with "
        "'logits' in their name (Jordan et al., 2024; Liu et al., arXiv 2502.16982).",
        0.05,
        _make_muon,
    ),
    OptimizerInfo(
        "rmsprop",
        "RMSProp with momentum (Tieleman & Hinton, 2012).",
        0.0,
        _maker(
            "RMSprop",
            lambda s: {"rho": s.rmsprop_decay, "momentum": s.rmsprop_momentum, **_epsilon(s)},
        ),
    ),
    OptimizerInfo("sgd", "Plain gradient descent.", 4e-5, _maker("SGD", lambda s: {})),
):
    register(_info)
