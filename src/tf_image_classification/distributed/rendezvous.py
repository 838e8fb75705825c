"""Waiting until every worker of a cluster has started, and naming those that have not.

TensorFlow waits for late workers without an end and without a word. So before it is asked to
connect them, each worker reports at the first one's address, which lets all go when all are there.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import time

from tf_image_classification.distributed.cluster_spec import Cluster
from tf_image_classification.errors import ConfigError, WorkerLostError

_GO = b"go\n"
_RETRY_SECS = 0.2
_LONGEST_LINE = 100


def hold_roll_call(cluster: Cluster, timeout_secs: float) -> None:
    """Return when every worker of the cluster has started.

    Raises:
        WorkerLostError: some have not within the time; names them.
        ConfigError: this machine does not have the address that the cluster gives it.
    """
    if cluster.num_workers == 1:
        return
    deadline = time.monotonic() + timeout_secs
    if cluster.rank == 0:
        _call(cluster, deadline, timeout_secs)
    else:
        _report(cluster, deadline, timeout_secs)


def _call(cluster: Cluster, deadline: float, timeout_secs: float) -> None:
    """The first worker's part: collect the names of the others, then let all go."""
    port = int(cluster.address(cluster.task).rpartition(":")[2])
    expected = {str(task): task for task in cluster.workers[1:]}
    present: dict[str, socket.socket] = {}
    received: dict[socket.socket, bytes] = {}
    try:
        listener = socket.create_server(("", port), backlog=cluster.num_workers)
    except OSError as error:
        raise ConfigError(
            f"{cluster.origin}: port {port} of this machine cannot be used by the {cluster.task}: "
            f"{error.strerror}. End the process that holds it, or name another port."
        ) from error
    with listener, contextlib.ExitStack() as open_sockets, selectors.DefaultSelector() as selector:
        selector.register(listener, selectors.EVENT_READ)
        while missing := [name for name in expected if name not in present]:
            ready = selector.select(max(0.0, deadline - time.monotonic()))
            if not ready or time.monotonic() >= deadline:
                names = ", ".join(f"{n} ({cluster.address(expected[n])})" for n in missing)
                raise WorkerLostError(
                    f"Not started within {timeout_secs:g} seconds: {names}. Look at the log of "
                    "that task, or give the others more time with --cluster_timeout_secs."
                )
            for key, _ in ready:
                if key.fileobj is listener:
                    connection = open_sockets.enter_context(listener.accept()[0])
                    selector.register(connection, selectors.EVENT_READ)
                    received[connection] = b""
                    continue
                connection = key.fileobj  # type: ignore[assignment]
                part = _part(connection)
                received[connection] += part
                if not part or len(received[connection]) > _LONGEST_LINE:
                    # A worker that has reported and is gone will come again, if it is restarted.
                    present = {n: c for n, c in present.items() if c is not connection}
                    selector.unregister(connection)
                elif received[connection].endswith(b"\n"):
                    present[received[connection].decode(errors="replace").strip()] = connection
        for connection in present.values():
            connection.sendall(_GO)


def _report(cluster: Cluster, deadline: float, timeout_secs: float) -> None:
    """The part of the others: report, and wait to be let go."""
    first = cluster.workers[0]
    host, _, port = cluster.address(first).rpartition(":")
    while True:
        left = deadline - time.monotonic()
        if left <= 0:
            raise WorkerLostError(
                f"The {first} ({cluster.address(first)}) did not start, or not every other worker "
                f"did, within {timeout_secs:g} seconds. Look at its log, or give the others more "
                "time with --cluster_timeout_secs."
            )
        try:
            with socket.create_connection((host.strip("[]"), int(port)), timeout=left) as link:
                link.sendall(f"{cluster.task}\n".encode())
                if _line(link) == _GO.decode().strip():
                    return
        except OSError:  # not there yet, or its name is not known yet
            pass
        time.sleep(_RETRY_SECS)


def _part(connection: socket.socket) -> bytes:
    """What the other side has sent, or nothing when it is gone."""
    try:
        return connection.recv(_LONGEST_LINE)
    except OSError:
        return b""


def _line(connection: socket.socket) -> str:
    """What the other side sends up to a line's end, or "" when it goes away."""
    received = b""
    while not received.endswith(b"\n"):
        part = connection.recv(_LONGEST_LINE)
        if not part:
            return ""
        received += part
    return received.decode(errors="replace").strip()
