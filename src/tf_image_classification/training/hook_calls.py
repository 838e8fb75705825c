"""Calls of the hooks of a run on the workers where they belong, and their saved states."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from tf_image_classification.distributed.workers import Workers
from tf_image_classification.hooks.base import Hook


class HookCalls:
    """The hooks of a run, called in their order.

    Attributes:
        is_everywhere: whether the hook that is being called runs on every worker.
    """

    def __init__(self, hooks: Sequence[Hook], workers: Workers) -> None:
        self.is_everywhere = True
        self._hooks = hooks
        self._workers = workers

    def __call__(self, call: Callable[[Hook], None]) -> None:
        """Call something of each hook of this worker."""
        for hook in self._hooks:
            self.is_everywhere = hook.on_every_worker or self._workers.count == 1
            if self._workers.is_writer or hook.on_every_worker:
                call(hook)

    @contextlib.contextmanager
    def closing(self) -> Iterator[None]:
        """Close the hooks when the block is left."""
        try:
            yield
        finally:
            self(lambda hook: hook.close())

    def states(self) -> dict[str, Any]:
        """The state of each hook by its class and number, as checkpoints keep it."""
        return {name: hook.state() for name, hook in self._named()}

    def load_states(self, states: Mapping[str, Any]) -> None:
        """Give each hook its saved state, if there is one."""
        for name, hook in self._named():
            if name in states:
                hook.load_state(states[name])

    def _named(self) -> Iterator[tuple[str, Hook]]:
        seen: dict[str, int] = {}
        for hook in self._hooks:
            name = type(hook).__name__
            seen[name] = seen.get(name, 0) + 1
            yield f"{name}/{seen[name]}", hook
