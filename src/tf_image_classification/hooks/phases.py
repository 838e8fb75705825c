"""Staged unfreezing: parts of the model that begin to train at a later step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tf_image_classification.errors import ConfigError, did_you_mean
from tf_image_classification.hooks.base import Hook, Run


class UnfreezeHook(Hook):
    """Freezes variables until a step.

    Batch normalisation statistics are not frozen: ``freeze_batch_norm`` does that for the whole
    run. Several hooks, each for a part of the model, unfreeze it gradually.

        train(MySpec(), settings, hooks=[UnfreezeHook(["features/"], at_step=500)])

    Attributes:
        scopes: prefixes of variable paths.
        at_step: number of steps after which they train.
    """

    on_every_worker = True

    def __init__(self, scopes: Sequence[str], *, at_step: int) -> None:
        """Store the scopes and the step.

        Raises:
            ConfigError: scopes is empty or a string, or the step is not 1 or more.
        """
        if isinstance(scopes, str) or not scopes or at_step < 1:
            raise ConfigError(
                f"UnfreezeHook has scopes {scopes!r} and at_step {at_step!r}, expected a list of "
                "name prefixes and 1 step or more."
            )
        self.scopes, self.at_step = tuple(scopes), at_step

    def begin(self, run: Run) -> None:
        """Check that each scope matches a variable.

        Raises:
            ConfigError: one matches none.
        """
        paths = [v.path for v in run.model.trainable_variables]
        for scope in self.scopes:
            if not any(path.startswith(scope) for path in paths):
                parts = {path.split("/")[0] for path in paths}
                raise ConfigError(
                    f"UnfreezeHook: no trainable variable's name begins with {scope!r}. "
                    f"{did_you_mean(scope, parts)}"
                )

    def rate_fraction(self, path: str) -> Callable[[Any], Any] | None:
        """0 until the step, then 1, for the frozen variables."""
        if not path.startswith(self.scopes):
            return None
        return lambda step: step >= self.at_step
