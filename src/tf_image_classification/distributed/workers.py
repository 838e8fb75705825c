"""The processes that train together: joining them, and sums and checks between them.

workers = join(settings, cluster)
rows = workers.exchange([step])   # [W, 1], the same on every worker
"""

from __future__ import annotations

import dataclasses
import functools
import re
import signal
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tf_image_classification.distributed.cluster_spec import Cluster, Task
from tf_image_classification.distributed.devices import make_strategy
from tf_image_classification.distributed.rendezvous import wait_for_workers
from tf_image_classification.errors import ConfigError, RunMismatchError, WorkerLostError
from tf_image_classification.system import quiet
from tf_image_classification.system.autograph import unconverted

_TASK = re.compile(r"/job:(\w+)/(?:replica:\d+/)?task:(\d+)")
_LOST = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.InternalError,
)


@dataclasses.dataclass(frozen=True)
class Workers:
    """The processes that train together.

    Attributes:
        strategy: the strategy over all their devices.
        cluster: their addresses; None for a single process.
    """

    strategy: tf.distribute.Strategy
    cluster: Cluster | None = None

    @property
    def count(self) -> int:
        """The number of workers."""
        return self.cluster.num_workers if self.cluster else 1

    @property
    def rank(self) -> int:
        """The rank of this worker, from 0."""
        return self.cluster.rank if self.cluster else 0

    @property
    def is_writer(self) -> bool:
        """Whether this worker writes the model folder: only the first one does."""
        return self.rank == 0

    def name(self, rank: int) -> str:
        """The name of a worker in messages."""
        return str(self.cluster.workers[rank]) if self.cluster else "this process"

    def exchange(self, numbers: Sequence[float] | npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """The numbers of every worker, float64 [W, n]; returns when all workers have called it.

        Args:
            numbers: n numbers, the same n on every worker.

        Raises:
            WorkerLostError: a worker is gone.
        """
        rows = np.zeros((self.count, len(numbers)))
        rows[self.rank] = numbers
        if self.count == 1:
            return rows
        try:
            total = self._sum(tf.constant(rows))
        except tf.errors.OpError as error:
            self.explain(error)
            raise
        return np.asarray(self.strategy.experimental_local_results(total)[0].numpy())

    @functools.cached_property  # traced once for each number of columns
    def _sum(self) -> Any:
        """Sums rows over workers; only one contributes other numbers than 0, so none is rounded."""
        local = len(self.strategy.extended.worker_devices)

        def replica(rows: tf.Tensor) -> tf.Tensor:
            context = tf.distribute.get_replica_context()
            is_first = context.replica_id_in_sync_group % local == 0
            mine = tf.where(is_first, rows, tf.zeros_like(rows))
            return context.all_reduce(tf.distribute.ReduceOp.SUM, mine)

        return tf.function(unconverted(lambda rows: self.strategy.run(replica, args=(rows,))))

    def wait_for_all(self) -> None:
        """Return when every worker has called it.

        Raises:
            WorkerLostError: a worker is gone.
        """
        self.exchange([0.0])

    def check_same(self, name: str, digest: int) -> None:
        """Check that every worker has the same value of something.

        Args:
            name: its name, and how to make it the same, for the message.
            digest: its checksum, at most 53 bits.

        Raises:
            RunMismatchError: the digests differ; names the workers.
        """
        digests = self.exchange([digest])[:, 0]
        others = [self.name(rank) for rank in range(self.count) if digests[rank] != digests[0]]
        if others:
            raise RunMismatchError(
                f"{', '.join(others)} and the {self.name(0)} do not have the same {name}."
            )

    def explain(self, error: tf.errors.OpError) -> None:
        """Raise an error that names the lost worker, if that caused an error of TensorFlow.

        Raises:
            WorkerLostError: a worker is lost.
        """
        if self.count == 1 or not isinstance(error, _LOST):
            return
        assert self.cluster is not None
        own = self.cluster.task
        named = [Task(kind, int(index)) for kind, index in _TASK.findall(error.message)]
        lost = next((task for task in named if task != own and task in self.cluster.workers), None)
        if lost is None and "ollective" not in error.message:
            return
        name = f"{lost} ({self.cluster.address(lost)})" if lost else "another worker"
        raise WorkerLostError(
            f"Lost {name}: it has ended or cannot be reached; look at its log. Start the same "
            "command again on every worker to resume from the newest checkpoint."
        ) from error


def join(name: str, cluster: Cluster | None, *, timeout_secs: float) -> Workers:
    """The workers with this process among them; call it before any other use of TensorFlow.

    Args:
        name: the setting ``strategy``.
        cluster: the cluster, or None.
        timeout_secs: time for the others to start.

    Raises:
        ConfigError: the strategy does not fit the cluster.
        WorkerLostError: a worker did not start in time; names it.
    """
    if name == "multi_worker" and cluster is None:
        raise ConfigError(
            "strategy is multi_worker, but the environment describes no cluster. Set TF_CONFIG for "
            "each worker, or start them with tfic launch --workers N."
        )
    if cluster is None or cluster.num_workers == 1:
        return Workers(make_strategy("auto" if name == "multi_worker" else name), cluster)
    if name not in ("auto", "multi_worker"):
        raise ConfigError(
            f"strategy is {name}, but {cluster.origin} describes {cluster.num_workers} workers, "
            f"which train together with strategy multi_worker. Leave --strategy out, or unset "
            f"{cluster.origin} to train on one machine."
        )
    if cluster not in _connected:  # a process joins once, however often it trains
        wait_for_workers(cluster, timeout_secs)
        _connected[cluster] = _connect(cluster)
    return Workers(_connected[cluster], cluster)


_connected: dict[Cluster, tf.distribute.Strategy] = {}


def _connect(cluster: Cluster) -> tf.distribute.Strategy:
    """TensorFlow's strategy over the workers.

    Raises:
        ConfigError: TensorFlow was used before.
    """
    addresses: dict[str, list[str]] = {}
    for task, address in cluster.members:
        addresses.setdefault(task.kind, []).append(address)
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec(addresses),
        task_type=cluster.task.kind,
        task_id=cluster.task.index,
        rpc_layer="grpc",
    )
    is_main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGTERM)
    try:
        with quiet.hidden():
            strategy = tf.distribute.MultiWorkerMirroredStrategy(cluster_resolver=resolver)
    except RuntimeError as error:
        raise ConfigError(
            f"The workers cannot be connected: {error} Make no tensors before train() is called, "
            "neither when your module is imported nor in the constructor of the spec."
        ) from error
    if is_main:  # TensorFlow replaced the handler by one that does nothing
        signal.signal(signal.SIGTERM, before)
    return strategy
