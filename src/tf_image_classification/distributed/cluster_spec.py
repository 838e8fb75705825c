"""The cluster spec: its tasks, and the task of this process; needs no TensorFlow.

    cluster = read_cluster(os.environ)   # None: one machine
    cluster.task, cluster.num_workers

Read from the environment variables of the platforms: ``TF_CONFIG`` of Vertex AI, ML Engine,
Kubeflow and Ray, Vertex AI's ``CLUSTER_SPEC``, and those of SLURM's ``srun``. An indexed Kubernetes
job, which has only its index, sets ``TFIC_NUM_WORKERS`` and ``TFIC_WORKER_ADDRESS`` besides.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from tf_image_classification.errors import ConfigError

CHIEF, WORKER, EVALUATOR = "chief", "worker", "evaluator"

_OTHER_NAMES = {"master": CHIEF}
_POOLS = {
    "workerpool0": CHIEF,
    "workerpool1": WORKER,
    "workerpool2": "ps",
    "workerpool3": EVALUATOR,
}
_NO_PARAMETER_SERVERS = (
    "parameter servers (ps) are not used here: the workers hold equal copies of the model and "
    "train in step. Ask the platform for workers instead."
)


@dataclasses.dataclass(frozen=True)
class Task:
    """One process of a cluster.

    Attributes:
        kind: "chief", "worker" or "evaluator".
        index: its index among the tasks of its kind, from 0.
    """

    kind: str
    index: int

    def __str__(self) -> str:
        return self.kind if self.kind != WORKER else f"{self.kind} {self.index}"


@dataclasses.dataclass(frozen=True)
class Cluster:
    """The processes that train together, and the task of this process.

    Attributes:
        members: the tasks that train, each with its host:port; the first one writes.
        task: this process.
        has_evaluator: whether the cluster names an evaluator task.
        origin: the source of the cluster, e.g. the environment variable, for messages.
    """

    members: tuple[tuple[Task, str], ...]
    task: Task
    has_evaluator: bool = False
    origin: str = "TF_CONFIG"

    @property
    def workers(self) -> list[Task]:
        """The tasks that train."""
        return [task for task, _ in self.members]

    @property
    def num_workers(self) -> int:
        """The number of tasks that train."""
        return len(self.members)

    @property
    def is_evaluator(self) -> bool:
        """Whether this process evaluates and does not train."""
        return self.task.kind == EVALUATOR

    @property
    def rank(self) -> int:
        """The rank of this process among those that train; rank 0 writes."""
        return self.workers.index(self.task)

    def address(self, task: Task) -> str:
        """host:port of a training task."""
        return dict(self.members)[task]


def read_cluster(environment: Mapping[str, str]) -> Cluster | None:
    """The cluster in the environment variables, or None without one.

    Args:
        environment: variables by name.

    Raises:
        ConfigError: the variables are malformed, contradict each other, or ask for something
            unsupported, e.g. parameter servers.
    """
    found = [
        read(text, name)
        for name, read in (("TF_CONFIG", _from_tf_config), ("CLUSTER_SPEC", _from_cluster_spec))
        if (text := environment.get(name, "").strip())
    ]
    clusters = [cluster for cluster in found if cluster is not None]
    if not clusters:
        return _from_indexed_job(environment) or _from_slurm(environment)
    # Vertex AI names the evaluator in CLUSTER_SPEC alone.
    has_evaluator = any(cluster.has_evaluator for cluster in clusters)
    return dataclasses.replace(clusters[0], has_evaluator=has_evaluator)


def members_of(addresses: Mapping[str, Sequence[str]]) -> tuple[tuple[Task, str], ...]:
    """The training tasks with their addresses, the chief first."""
    return tuple(
        (Task(kind, index), address)
        for kind in (CHIEF, WORKER)
        for index, address in enumerate(addresses.get(kind, ()))
    )


def tf_config(
    addresses: Mapping[str, Sequence[str]], task: Task, *, has_evaluator: bool = False
) -> str:
    """The ``TF_CONFIG`` of one task, as ``read_cluster`` reads it.

    Example:
        >>> tf_config({"worker": ["a:1", "b:1"]}, Task("worker", 0))
        '{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 0}}'
    """
    cluster = {kind: list(given) for kind, given in addresses.items() if given}
    if has_evaluator:
        cluster[EVALUATOR] = [""]  # does not train, so nobody connects to it
    return json.dumps({"cluster": cluster, "task": {"type": task.kind, "index": task.index}})


def _from_tf_config(text: str, origin: str) -> Cluster | None:
    value = _object(_parsed(text, origin), origin)
    given = _object(value.get("cluster", value.get("sparseCluster", {})), f"{origin}: cluster")
    if not given and not value.get("task"):
        return None
    cluster = {kind: _list(kind, tasks, origin) for kind, tasks in given.items()}
    return _checked(cluster, value.get("task"), _OTHER_NAMES, origin)


def _from_cluster_spec(text: str, origin: str) -> Cluster | None:
    value = _object(_parsed(text, origin), origin)
    given = _object(value.get("cluster", {}), f"{origin}: cluster")
    unknown = sorted(set(given) - set(_POOLS))
    if unknown:
        raise ConfigError(
            f"{origin}: there is no worker pool {unknown[0]!r}, expected {', '.join(_POOLS)}."
        )
    cluster = {pool: _list(pool, tasks, origin) for pool, tasks in given.items()}
    return _checked(cluster, value.get("task"), _POOLS, origin)


def _parsed(text: str, origin: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ConfigError(
            f"{origin} is not JSON ({error}). Expected an object like "
            f"{tf_config({WORKER: ['host1:2222', 'host2:2222']}, Task(WORKER, 0))}; unset it to "
            "train on one machine."
        ) from error


def _object(value: Any, name: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ConfigError(f"{name} is {value!r}, expected a JSON object.")
    return value


def _list(kind: str, tasks: Any, origin: str) -> tuple[str, ...]:
    """The addresses of one kind of task, from a list or an object by index."""
    if isinstance(tasks, Mapping):
        numbers = sorted(tasks, key=lambda n: int(n) if str(n).isdigit() else -1)
        if [str(n) for n in numbers] != [str(n) for n in range(len(numbers))]:
            raise ConfigError(
                f"{origin}: {kind} names the tasks {', '.join(map(str, numbers))} only. Every "
                "worker must know all of them: leave out enableDynamicWorker."
            )
        tasks = [tasks[n] for n in numbers]
    if not isinstance(tasks, list) or not all(isinstance(task, str) for task in tasks):
        raise ConfigError(f"{origin}: {kind} is {tasks!r}, expected a list of host:port texts.")
    return tuple(tasks)


def _checked(
    given: Mapping[str, tuple[str, ...]], task: Any, names: Mapping[str, str], origin: str
) -> Cluster:
    """The cluster of addresses by kind of task, or an error that names the contradiction."""
    cluster: dict[str, tuple[str, ...]] = {}
    for name, addresses in given.items():
        kind = names.get(name, name)
        if kind in cluster and addresses:
            raise ConfigError(f"{origin}: cluster holds both {kind} and {name}. Name one of them.")
        if addresses:
            cluster[kind] = addresses
    this = _task(task, names, origin)
    if this.kind == "ps" or cluster.get("ps"):
        raise ConfigError(f"{origin}: {_NO_PARAMETER_SERVERS}")
    has_evaluator = bool(cluster.pop(EVALUATOR, ()))
    _check_addresses(cluster, origin)
    found = Cluster(members_of(cluster), this, has_evaluator, origin)
    if found.is_evaluator and this.index:
        raise ConfigError(f"{origin}: this is evaluator {this.index}, expected 0, the only one.")
    if not found.is_evaluator and this not in found.workers:
        known = ", ".join(f"{task.kind} {task.index}" for task in found.workers) or "nobody"
        raise ConfigError(
            f"{origin}: this process is {this.kind} {this.index}, but cluster names {known}."
        )
    return found


def _check_addresses(cluster: Mapping[str, tuple[str, ...]], origin: str) -> None:
    """Check the kinds and addresses of the tasks that train."""
    for kind, addresses in cluster.items():
        if kind not in (CHIEF, WORKER):
            raise ConfigError(
                f"{origin}: found tasks of the kind {kind!r}, expected chief, worker or evaluator."
            )
        for address in addresses:
            host, _, port = address.rpartition(":")
            if not host or not port.isdigit():
                raise ConfigError(
                    f"{origin}: {kind} {address!r} is no address, expected host:port."
                )
    if len(cluster.get(CHIEF, ())) > 1:
        raise ConfigError(f"{origin}: cluster names {len(cluster[CHIEF])} chiefs, expected one.")
    every = [address for addresses in cluster.values() for address in addresses]
    repeated = sorted({address for address in every if every.count(address) > 1})
    if repeated:
        raise ConfigError(f"{origin}: {repeated[0]} is the address of more than one task.")


def _task(task: Any, names: Mapping[str, str], origin: str) -> Task:
    value = _object(task, f"{origin}: task")
    kind, index = value.get("type"), value.get("index", 0)
    if not isinstance(kind, str) or not kind:
        raise ConfigError(f"{origin}: task has no type, expected chief, worker or evaluator.")
    is_number = (isinstance(index, int) and not isinstance(index, bool)) or (
        isinstance(index, str) and index.isdigit()
    )
    if not is_number or int(index) < 0:
        raise ConfigError(f"{origin}: task index is {index!r}, expected a number from 0.")
    return Task(names.get(kind, kind), int(index))


NUM_WORKERS, WORKER_ADDRESS = "TFIC_NUM_WORKERS", "TFIC_WORKER_ADDRESS"
"""For an indexed job: the number of workers, and the pattern of their host:port with {index}."""


def _from_indexed_job(environment: Mapping[str, str]) -> Cluster | None:
    """The workers of an indexed Kubernetes job, from their number and a pattern of addresses."""
    if NUM_WORKERS not in environment:
        return None
    number, index = environment[NUM_WORKERS], environment.get("JOB_COMPLETION_INDEX", "")
    pattern = environment.get(WORKER_ADDRESS, "")
    if not (number.isdigit() and index.isdigit() and "{index}" in pattern):
        raise ConfigError(
            f"{NUM_WORKERS} is {number!r}, JOB_COMPLETION_INDEX {index!r} and {WORKER_ADDRESS} "
            f"{pattern!r}, expected two numbers and an address with {{index}} in it."
        )
    addresses = tuple(pattern.replace("{index}", str(i)) for i in range(int(number)))
    task = {"type": WORKER, "index": index}
    return _checked({WORKER: addresses}, task, {}, NUM_WORKERS)


_SLURM_PORTS = range(10000, 30000)


def _from_slurm(environment: Mapping[str, str]) -> Cluster | None:
    """The tasks that ``srun`` started together, each a worker, in the order of their ranks."""
    if int(environment.get("SLURM_STEP_NUM_TASKS") or 1) == 1:
        return None
    try:
        hosts = _host_names(environment["SLURM_STEP_NODELIST"])
        counts = _tasks_per_node(environment["SLURM_STEP_TASKS_PER_NODE"])
        rank, num_tasks = int(environment["SLURM_PROCID"]), int(environment["SLURM_STEP_NUM_TASKS"])
        # Other steps on these machines must not have the same ports.
        seed = 31 * int(environment["SLURM_JOB_ID"]) + int(environment["SLURM_STEP_ID"])
        node = int(environment["SLURM_NODEID"])
    except (KeyError, ValueError) as error:
        raise ConfigError(
            "SLURM_STEP_NUM_TASKS is above 1, but the other SLURM_* variables do not fit: "
            f"{error!r}. Start the tasks with srun, or set TF_CONFIG."
        ) from error
    nodes = [number for number, count in enumerate(counts) for _ in range(count)]
    if len(hosts) != len(counts) or len(nodes) != num_tasks or nodes[rank] != node:
        raise ConfigError(
            f"SLURM: {num_tasks} tasks on {', '.join(hosts)} with {counts} tasks a node, of which "
            f"this is number {rank} on node {node}, are not numbered node by node. Start them with "
            "srun --distribution=block."
        )
    port = _SLURM_PORTS[seed % (len(_SLURM_PORTS) - max(counts))]
    addresses = [
        f"{host}:{port + local}"
        for host, count in zip(hosts, counts, strict=True)
        for local in range(count)
    ]
    return Cluster(members_of({WORKER: addresses}), Task(WORKER, rank), origin="SLURM")


def _host_names(text: str) -> list[str]:
    """The hosts of SLURM's short form.

    Example:
        >>> _host_names("gpu[08-10],login")
        ['gpu08', 'gpu09', 'gpu10', 'login']
    """
    hosts = []
    for part in re.findall(r"(?:[^,\[]|\[[^\]]*\])+", text):
        pieces = re.split(r"\[([^\]]*)\]", part)
        choices = [_numbers(p) if i % 2 else [p] for i, p in enumerate(pieces)]
        hosts += ["".join(choice) for choice in itertools.product(*choices)]
    return hosts


def _numbers(text: str) -> list[str]:
    found = []
    for part in text.split(","):
        first, dash, last = part.partition("-")
        end = last if dash else first
        found += [str(n).zfill(len(first)) for n in range(int(first), int(end) + 1)]
    return found


def _tasks_per_node(text: str) -> list[int]:
    """The number of tasks on each node from SLURM's short form.

    >>> _tasks_per_node("2(x3),1")
    [2, 2, 2, 1]
    """
    counts = []
    for part in text.split(","):
        count, times, repeated = part.rstrip(")").partition("(x")
        counts += [int(count)] * (int(repeated) if times else 1)
    return counts
