"""Rendezvous of the workers of a cluster, with a timeout that names the missing ones.

TensorFlow waits for late workers without a timeout or a message. So before it connects them, each
worker reports at the first worker's address, which releases all of them when they are complete.
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
_MAX_LINE_BYTES = 100


def wait_for_workers(cluster: Cluster, timeout_secs: float) -> None:
    """Return when every worker of the cluster has started.

    Raises:
        WorkerLostError: workers are missing after the timeout; names them.
        ConfigError: the address of this task in the cluster is not one of this machine.
    """
    if cluster.num_workers == 1:
        return
    deadline = time.monotonic() + timeout_secs
    if cluster.rank == 0:
        _collect(cluster, deadline, timeout_secs)
    else:
        _report(cluster, deadline, timeout_secs)


def _collect(cluster: Cluster, deadline: float, timeout_secs: float) -> None:
    """On the first worker: collect the reports of the others, then release them."""
    port = int(cluster.address(cluster.task).rpartition(":")[2])
    expected = {str(task): task for task in cluster.workers[1:]}
    arrived: dict[str, socket.socket] = {}
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
        while missing := [name for name in expected if name not in arrived]:
            events = selector.select(max(0.0, deadline - time.monotonic()))
            if not events or time.monotonic() >= deadline:
                names = ", ".join(f"{n} ({cluster.address(expected[n])})" for n in missing)
                raise WorkerLostError(
                    f"Not started within {timeout_secs:g} seconds: {names}. Look at the log of "
                    "that task, or give the others more time with --cluster_timeout_secs."
                )
            for key, _ in events:
                if key.fileobj is listener:
                    connection = open_sockets.enter_context(listener.accept()[0])
                    selector.register(connection, selectors.EVENT_READ)
                    received[connection] = b""
                    continue
                connection = key.fileobj  # type: ignore[assignment]
                part = _part(connection)
                received[connection] += part
                if not part or len(received[connection]) > _MAX_LINE_BYTES:
                    # A worker that reported and ended reports again when it is restarted.
                    arrived = {n: c for n, c in arrived.items() if c is not connection}
                    selector.unregister(connection)
                elif received[connection].endswith(b"\n"):
                    arrived[received[connection].decode(errors="replace").strip()] = connection
        for connection in arrived.values():
            connection.sendall(_GO)


def _report(cluster: Cluster, deadline: float, timeout_secs: float) -> None:
    """On the other workers: report, and wait for the release."""
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
        except OSError:  # not started, or its name cannot be resolved yet
            pass
        time.sleep(_RETRY_SECS)


def _part(connection: socket.socket) -> bytes:
    """The next bytes from the other side, or nothing when it is gone."""
    try:
        return connection.recv(_MAX_LINE_BYTES)
    except OSError:
        return b""


def _line(connection: socket.socket) -> str:
    """The next line from the other side, or "" when it is gone."""
    received = b""
    while not received.endswith(b"\n"):
        part = connection.recv(_MAX_LINE_BYTES)
        if not part:
            return ""
        received += part
    return received.decode(errors="replace").strip()
