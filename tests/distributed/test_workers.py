"""What can be known of several workers in one process; test_several_workers has real ones."""

import contextlib
import socket
import threading
import time

import numpy as np
import pytest
import tensorflow as tf

import tiny_runs
from tf_image_classification.config import make_settings
from tf_image_classification.distributed import workers as workers_module
from tf_image_classification.distributed.cluster_spec import Cluster, Task, members_of
from tf_image_classification.distributed.consensus import Consensus, Votes
from tf_image_classification.distributed.devices import make_strategy
from tf_image_classification.distributed.rendezvous import wait_for_workers
from tf_image_classification.distributed.workers import Workers, join
from tf_image_classification.errors import ConfigError, RunMismatchError, WorkerLostError


def cluster(ports, rank):
    members = members_of({"worker": [f"127.0.0.1:{port}" for port in ports]})
    return Cluster(members, Task("worker", rank))


def test_the_rendezvous_ends_when_the_last_worker_has_started():
    ports, gone = tiny_runs.free_ports(3), []

    def come(rank, after_secs):
        time.sleep(after_secs)
        wait_for_workers(cluster(ports, rank), 20.0)
        gone.append(time.monotonic())

    began = time.monotonic()
    threads = [threading.Thread(target=come, args=args) for args in ((0, 0.3), (1, 0.0), (2, 0.8))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(gone) == 3
    assert min(gone) - began >= 0.8


def test_a_worker_that_is_restarted_during_the_rendezvous_is_released():
    ports, gone = tiny_runs.free_ports(3), []

    def come(rank):
        wait_for_workers(cluster(ports, rank), 20.0)
        gone.append(rank)

    def report_and_die():
        for _ in range(200):  # until the first worker listens
            with (
                contextlib.suppress(OSError),
                socket.create_connection(("127.0.0.1", ports[0])) as s,
            ):
                s.sendall(b"worker 1\n")
                return
            time.sleep(0.02)

    threads = [threading.Thread(target=come, args=(rank,)) for rank in (0, 1, 2)]
    threads[0].start()
    report_and_die()
    for thread in threads[:0:-1]:  # the last one comes first: it must wait for the restarted one
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(gone) == [0, 1, 2]


@pytest.mark.parametrize("sent", [b"", b"GET", b"GET / HTTP/1.1\r\n", b"x" * 5000])
def test_other_connections_do_not_delay_the_rendezvous(sent):
    ports = tiny_runs.free_ports(2)
    threads = [threading.Thread(target=wait_for_workers, args=(cluster(ports, 0), 20.0))]
    threads[0].start()
    for _ in range(200):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", ports[0])) as s:
            s.sendall(sent)
            wait_for_workers(cluster(ports, 1), 20.0)
            break
        time.sleep(0.02)
    threads[0].join(5)
    assert not threads[0].is_alive()


def test_a_port_that_is_taken_is_named():
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"port {port} of this machine cannot be used"):
            wait_for_workers(cluster([port, *tiny_runs.free_ports(1)], 0), 1.0)


def test_a_process_by_itself_is_its_own_company():
    alone = Workers(make_strategy("one_device"))
    assert (alone.count, alone.rank, alone.is_writer) == (1, 0, True)
    assert np.array_equal(alone.exchange([1.0, 2.0]), [[1.0, 2.0]])
    alone.check_same("anything", 3)
    alone.explain(tf.errors.UnavailableError(None, None, "/job:worker/task:1 is gone"))


class Answered(Workers):
    """Two workers of which this one is the first, with the other's numbers given."""

    def exchange(self, numbers):
        return np.array([numbers, self.strategy], np.float64)


def test_what_differs_between_workers_is_refused_by_name():
    two = Answered([4.0], cluster([1, 2], 0))
    two.check_same("model", 4)
    with pytest.raises(RunMismatchError, match="worker 1 and the worker 0 do not have the same"):
        two.check_same("model", 5)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            "Collective ops is aborted by: Error reported from /job:worker/task:1: tasks are",
            r"Lost worker 1 \(127.0.0.1:2\).*Start the same command again on every worker",
        ),
        ("{{node x_device_/job:worker/replica:0/task:0}} Collective ops is aborted", "another"),
    ],
)
def test_a_lost_worker_is_named(error, message):
    with pytest.raises(WorkerLostError, match=message):
        Workers(None, cluster([1, 2], 0)).explain(tf.errors.UnavailableError(None, None, error))


def test_an_unreachable_bucket_is_no_lost_worker():
    error = tf.errors.UnavailableError(None, None, "gs://bucket: 503, device /job:worker/task:0")
    Workers(None, cluster([1, 2], 0)).explain(error)


def test_one_process_acts_on_its_votes_at_once_and_several_one_call_later():
    alone = Consensus(Workers(None))
    assert alone.decide(Votes(evaluate=True), None) == Votes(evaluate=True)
    several = Consensus(Workers(None, cluster([1, 2], 0)))
    sums = [tf.constant(votes, tf.float32) for votes in (Votes(interrupt=True), Votes(), Votes())]
    assert several.decide(Votes(interrupt=True), 2 * sums[0]) == Votes()
    assert several.decide(Votes(), sums[1]) == Votes(interrupt=True)
    assert several.decide(Votes(), sums[2]) == Votes()


@pytest.mark.slow_after(2)
@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("multi_worker", None, "describes no cluster.*tfic launch"),
        ("mirrored", cluster([1, 2], 0), "TF_CONFIG describes 2 workers.*multi_worker"),
        ("tpu", None, "no TPU can be used"),
    ],
)
def test_a_strategy_that_does_not_fit_is_refused(name, given, message):
    with pytest.raises(ConfigError, match=message):
        join(name, given, timeout_secs=1.0)


def test_a_cluster_of_one_is_one_machine(monkeypatch):
    monkeypatch.setattr(workers_module, "wait_for_workers", None)  # nobody to wait for
    alone = join("auto", cluster([1], 0), timeout_secs=1.0)
    assert alone.count == 1
    assert not isinstance(alone.strategy, tf.distribute.MultiWorkerMirroredStrategy)


def test_tensors_that_were_made_too_early_are_explained():
    tf.constant(1.0)
    ports = tiny_runs.free_ports(2)
    other = threading.Thread(target=wait_for_workers, args=(cluster(ports, 1), 20.0))
    other.start()
    with pytest.raises(ConfigError, match="Make no tensors before train"):
        join("auto", cluster(ports, 0), timeout_secs=20.0)
    other.join(20)


def test_sync_batch_norm_without_batch_norm_is_refused(tmp_path):
    train = tiny_runs.write_records(tmp_path)
    with pytest.raises(ConfigError, match="sync_batch_norm has no effect"):
        tiny_runs.run(
            tiny_runs.plain_spec(), tmp_path / "model", train, train_steps=1, sync_batch_norm=True
        )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"sync_batch_norm": True, "gradient_accumulation_steps": 2}, "exclude each other"),
        ({"strategy": "tpu", "precision": "mixed_float16"}, "mixed_bfloat16"),
        ({"evaluator": "task"}, "no effect without eval_metadata"),
        ({"cache_dir": "gs://bucket/cache"}, "expected a local folder"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(given, message):
    with pytest.raises(ConfigError, match=message):
        make_settings(given)
