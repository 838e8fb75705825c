"""The server under load: requests a second and latencies, with and without batching.

    python benchmarks/serving.py MODEL_DIR IMAGE [--clients 1 8 64] [--secs 8]

Each client asks again as soon as it has its answer, all from this machine, so that they take part
of its cores. The ratio is of the requests a second with batching to those without.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import os
import socket
import statistics
import subprocess
import sys
import time

import httpx

NAME = "model"
_ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model_dir")
    parser.add_argument("image")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--secs", type=float, default=8.0)
    given = parser.parse_args()
    with open(given.image, "rb") as stream:
        image = base64.b64encode(stream.read()).decode()
    found = {}
    for batch_size in (1, 32):
        with_server = Server(given.model_dir, batch_size)
        memory = [with_server.megabytes()]
        try:
            for clients in given.clients:
                asked = ask(with_server.url, image, clients, given.secs)
                found[batch_size, clients] = asyncio.run(asked)
                memory.append(with_server.megabytes())
            numbers = ", ".join(f"{megabytes:.0f}" for megabytes in memory)
            print(f"memory with batches of up to {batch_size}: {numbers} MB, at its start and after"
                  f" {given.clients} clients")  # fmt: skip
        finally:
            with_server.stop()
    print(f"{'clients':>8} {'without batching':>36} {'with batching':>36} {'ratio':>6}")
    for clients in given.clients:
        cells = []
        for batch_size in (1, 32):
            rate, half, most, errors = found[batch_size, clients]
            cells.append(f"{rate:7.0f}/s p50 {half:5.0f} p99 {most:5.0f} ms" + (
                f" {errors} errors" if errors else ""))  # fmt: skip
        ratio = found[32, clients][0] / found[1, clients][0]
        print(f"{clients:>8} {cells[0]:>36} {cells[1]:>36} {ratio:>6.2f}")


class Server:
    """``tfic serve`` or another server in a process of its own."""

    def __init__(self, model_dir, batch_size, *options):
        module = [sys.executable, "-m", "tf_image_classification.cli.main", "serve", model_dir]
        self._start([*module, "--name", NAME, "--max_batch_size", str(batch_size), *options], True)

    @classmethod
    def of(cls, command):
        """The server of a command whose last word is the port."""
        server = cls.__new__(cls)
        server._start(command, False)
        return server

    def _start(self, command, has_option):
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        began = time.monotonic()
        self.process = subprocess.Popen(
            [*command, *(["--port"] if has_option else []), str(port)],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env=_ENVIRONMENT | {"TF_CPP_MIN_LOG_LEVEL": "3"},
        )  # fmt: skip
        while True:
            try:
                httpx.get(f"{self.url}/health")
                self.secs_to_healthy = time.monotonic() - began
                return
            except httpx.TransportError:
                if self.process.poll() is not None:
                    raise SystemExit("The server did not start.") from None
                time.sleep(0.02)

    def megabytes(self):
        """Its resident memory."""
        with open(f"/proc/{self.process.pid}/statm", encoding="ascii") as stream:
            return int(stream.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6

    def cpu_secs(self):
        """Its seconds of computing so far, which other programs of the machine hardly change."""
        with open(f"/proc/{self.process.pid}/stat", encoding="ascii") as stream:
            times = stream.read().rpartition(")")[2].split()[11:13]
        return sum(map(int, times)) / os.sysconf("SC_CLK_TCK")

    def stop(self):
        self.process.terminate()
        self.process.wait(60)


async def ask(url, image, clients, secs):
    """Requests a second, p50 and p99 in milliseconds, and errors."""
    body = {"instances": [{"b64": image}]}
    latencies, errors = [], 0
    end = time.monotonic() + secs

    async def client(session):
        nonlocal errors
        while time.monotonic() < end:
            began = time.monotonic()
            response = await session.post(f"/v1/models/{NAME}:predict", json=body)
            latencies.append(1000 * (time.monotonic() - began))
            errors += response.status_code != 200

    limits = httpx.Limits(max_connections=clients)
    async with httpx.AsyncClient(base_url=url, timeout=60, limits=limits) as session:
        await asyncio.gather(*(client(session) for _ in range(clients)))
    cuts = statistics.quantiles(latencies, n=100)
    return len(latencies) / secs, cuts[49], cuts[98], errors


if __name__ == "__main__":
    main()
