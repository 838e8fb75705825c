"""Images a second on two workers with one core each against one process with one core.

    python benchmarks/scaling.py [--small_only]

Every worker has the same part of the batch in both cases (weak scaling), and a core of its own.
The two cases are measured in turn, several rounds each, every round in new processes on loopback;
the efficiency is the rate of two workers over twice the rate of one. "all-reduce" is the time that
summing tensors of the gradients' shapes takes by itself, as a fraction of the step. Keras ``fit``
is measured in the same way where it runs at all.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

SIZES = {  # size in pixels, examples, batch of one worker, steps of a round
    "small_cnn": (28, 6000, 64, 150),
    "mobilenet_v2": (128, 600, 32, 8),
}
ROUNDS = 3


def worker(model, who, folder, rank, ports):
    """One process: trains, and prints what it measured."""
    os.sched_setaffinity(0, {rank})  # before TensorFlow counts the cores
    import tensorflow as tf

    import train_throughput as throughput
    from tf_image_classification.distributed.cluster_spec import Cluster, Task, members_of
    from tf_image_classification.distributed.workers import join

    size, _, batch_size, steps = SIZES[model]
    paths = tf.io.gfile.glob(os.path.join(folder, "train-*"))
    build = throughput.WORK[model].build
    addresses = {"worker": [f"127.0.0.1:{port}" for port in ports]}
    cluster = Cluster(members_of(addresses), Task("worker", rank))
    workers = join("auto", cluster, timeout_secs=60.0)
    whole_batch = batch_size * len(ports)
    if who == "ours":
        cache = os.path.join(folder, f"cache-{rank}")
        contestant = throughput.Ours(build, paths, size, whole_batch, cache, workers)
        variables = contestant.run._state.trained
    else:
        with workers.strategy.scope():
            contestant = throughput.Fit(build, paths, size, whole_batch)
        variables = contestant.model.trainable_variables
    contestant.train(max(2, steps // 4))  # traces, fills buffers; not counted
    workers.wait_for_all()
    began = time.perf_counter()
    contestant.train(steps)
    step_secs = (time.perf_counter() - began) / steps
    found = {"images_per_sec": whole_batch / step_secs, "step_secs": step_secs, "reduce_secs": 0.0}
    if len(ports) > 1:
        found["reduce_secs"] = all_reduce_secs(tf, workers, variables)
    print("MEASURED", json.dumps(found), flush=True)


def all_reduce_secs(tf, workers, variables, repeats=20):
    """Seconds of one sum over workers of tensors shaped like the gradients."""
    shapes = [variable.shape for variable in variables]

    def replica():
        values = [tf.ones(shape) for shape in shapes]
        return tf.distribute.get_replica_context().all_reduce("SUM", values)

    reduce = tf.function(lambda: workers.strategy.run(replica))
    reduce()
    began = time.perf_counter()
    for _ in range(repeats):
        reduce()
    return (time.perf_counter() - began) / repeats


def measure(model, who, folder, num_workers):
    """What the first of some new processes measured, or the last line of its error."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(num_workers)]
    ports = [str(each.getsockname()[1]) for each in sockets]
    for each in sockets:
        each.close()
    processes = [
        subprocess.Popen(
            [sys.executable, __file__, "--worker", model, who, folder, str(rank), *ports],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(num_workers)
    ]
    outputs = [process.communicate(timeout=600) for process in processes]
    for line in outputs[0][0].splitlines():
        if line.startswith("MEASURED"):
            return json.loads(line.partition(" ")[2])
    errors = [line for line in outputs[0][1].splitlines() if "Error" in line]
    return errors[-1] if errors else f"ended with status {processes[0].returncode}"


def compare(model, who, folder):
    """Measure in turn and print."""
    found = {1: [], 2: []}
    for _ in range(ROUNDS):
        for num_workers, results in found.items():
            result = measure(model, who, folder, num_workers)
            if isinstance(result, str):
                alone = "".join(f"1 worker {r['images_per_sec']:7.0f}   " for r in found[1])
                print(f"{model:<14} {who:<5} {alone}{num_workers} workers: does not run: {result}")
                return
            results.append(result)
    secs = {n: sum(r["step_secs"] for r in results) / ROUNDS for n, results in found.items()}
    rates = {n: n * SIZES[model][2] / secs[n] for n in found}
    reduce_secs = sum(r["reduce_secs"] for r in found[2]) / ROUNDS
    print(
        f"{model:<14} {who:<5} 1 worker {rates[1]:7.0f}   2 workers {rates[2]:7.0f} images/s   "
        f"efficiency {rates[2] / rates[1] / 2:.2f}   all-reduce {1000 * reduce_secs:.1f} ms of "
        f"{1000 * secs[2]:.1f} ms ({reduce_secs / secs[2]:.0%})",
        flush=True,
    )


def main():
    if sys.argv[1:2] == ["--worker"]:
        model, who, folder, rank, *ports = sys.argv[2:]
        worker(model, who, folder, int(rank), ports)
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small_only", action="store_true", help="leave MobileNetV2 out")
    arguments = parser.parse_args()
    import train_throughput as throughput

    for model, (size, count, _, _) in SIZES.items():
        if model != "small_cnn" and arguments.small_only:
            continue
        with tempfile.TemporaryDirectory() as folder:
            throughput.write_images(folder, size, count, num_shards=2)
            for who in ("ours", "fit"):
                compare(model, who, folder)


if __name__ == "__main__":
    main()
