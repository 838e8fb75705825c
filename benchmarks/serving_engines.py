"""Engines of the server beside a hand-written one: start, memory, requests a second, latencies.

    python benchmarks/serving_engines.py MODEL_DIR IMAGE [--onnx MODEL.onnx] [--secs 6]
        [--clients 1 8 64] [--rounds 1]

The hand-written server is FastAPI with ONNX Runtime (``peers/onnx_server.py``), which runs the file
of ``tfic export --format onnx``. In each round the servers are measured in turn; the clients share
the cores. Seconds of computing are those of the server alone. The ratio is of the requests a second
to those of the hand-written server.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import os
import statistics
import sys

from serving import Server, ask

PEER = os.path.join(os.path.dirname(__file__), "peers", "onnx_server.py")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model_dir")
    parser.add_argument("image")
    parser.add_argument("--onnx", default="")
    parser.add_argument("--engines", nargs="+", default=["litert", "onnx", "tensorflow"])
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--secs", type=float, default=6.0)
    parser.add_argument("--rounds", type=int, default=1)
    given = parser.parse_args()
    with open(given.image, "rb") as stream:
        image = base64.b64encode(stream.read()).decode()
    onnx = given.onnx or os.path.join(given.model_dir, "exports", "onnx", "model.onnx")
    starts = {
        engine: lambda engine=engine: Server(given.model_dir, 32, "--engine", engine)
        for engine in given.engines
    }
    starts["hand-written"] = lambda: Server.of([sys.executable, PEER, onnx])
    found = {name: [] for name in starts}
    for _ in range(given.rounds):
        for name, start in starts.items():
            server = start()
            try:
                memory = server.megabytes()
                rates = []
                for clients in given.clients:
                    before = server.cpu_secs()
                    rate, *others = asyncio.run(ask(server.url, image, clients, given.secs))
                    computed = 1000 * (server.cpu_secs() - before) / (rate * given.secs)
                    rates.append((rate, *others, computed))
                found[name].append((server.secs_to_healthy, memory, rates))
            finally:
                server.stop()
    for name, rounds in found.items():
        secs, memory = (statistics.median(one[k] for one in rounds) for k in (0, 1))
        print(f"{name}: healthy after {secs:.2f} s, {memory:.0f} MB")
        for number, clients in enumerate(given.clients):
            rate, half, most, errors, computed = (
                statistics.median(one[2][number][k] for one in rounds) for k in range(5)
            )
            peer = statistics.median(one[2][number][0] for one in found["hand-written"])
            print(
                f"{clients:>8} clients {rate:7.1f}/s p50 {half:5.0f} p99 {most:5.0f} ms, "
                f"{computed:.1f} ms of computing each, {errors:.0f} errors, "
                f"ratio {rate / peer:.2f}"
            )


if __name__ == "__main__":
    main()
