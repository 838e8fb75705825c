"""Runs whose data and model folder are in a bucket: a fake one, on loopback."""

import glob
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

import tiny_runs
from fake_gcs import TOKEN, FakeGcs
from tf_image_classification.checkpoints.store import CheckpointStore
from tf_image_classification.distributed.cluster_spec import Task, tf_config
from tf_image_classification.errors import DataError
from tf_image_classification.system import files

PROGRAM = os.path.join(os.path.dirname(os.path.abspath(__file__)), "tiny_program.py")
TFIC = [sys.executable, "-m", "tf_image_classification.cli.main"]


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    tiny_runs.write_records(folder)
    tiny_runs.write_records(folder, "eval", count=17, seed=1)
    return {os.path.basename(path): read(path) for path in glob.glob(f"{folder}/*.gz")}


@pytest.fixture
def gcs(records):
    with FakeGcs("bucket") as fake:
        for name, data in records.items():
            fake.put("bucket", f"data/{name}", data)
        yield fake
        assert not any(TOKEN.encode() in stored.data for stored in fake.buckets["bucket"].values())


def read(path):
    with open(path, "rb") as stream:
        return stream.read()


def run(gcs, command):
    ended = subprocess.run(
        command, env=os.environ | gcs.environment(), capture_output=True, text=True, timeout=240,
        check=False,
    )  # fmt: skip
    assert TOKEN not in ended.stdout + ended.stderr
    return ended


def arguments(folder, *more, **changes):
    settings = {
        "train_metadata": "gs://bucket/data/train-*", "eval_metadata": "gs://bucket/data/eval-*",
        "model_dir": "gs://bucket/model", "image_size": tiny_runs.SIZE, "batch_size": 6,
        "train_steps": 12, "cache_dir": os.path.join(folder, "cache"), "save_checkpoints_steps": 4,
        "learning_rate": 0.01,
    } | changes  # fmt: skip
    pairs = [part for name, value in settings.items() for part in (f"--{name}", str(value))]
    return [sys.executable, PROGRAM, *pairs, "--noprogress", *more]


def downloaded(gcs, prefix, folder):
    """A folder of the bucket as a local one."""
    for name in gcs.names("bucket"):
        if name.startswith(prefix):
            path = folder / name[len(prefix) :]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(gcs.buckets["bucket"][name].data)
    return str(folder)


def newest(gcs, folder, name):
    return CheckpointStore(downloaded(gcs, f"{name}/checkpoints/", folder)).newest()


@pytest.mark.exhaustive
def test_a_run_in_a_bucket_that_is_killed_ends_with_the_same_bits(gcs, tmp_path):
    ended = run(gcs, arguments(tmp_path, model_dir="gs://bucket/straight"))
    assert ended.returncode == 0, ended.stderr
    ended = run(gcs, arguments(tmp_path, "--signal", "SIGKILL", "--signal_at", "10"))
    assert ended.returncode == -9
    # What a process leaves behind that is killed while it saves.
    gcs.put("bucket", "model/checkpoints/.unfinished-1/step.data-00000-of-00001", b"half")
    ended = run(gcs, arguments(tmp_path))
    assert ended.returncode == 0, ended.stderr
    assert "resumed at step 8" in ended.stdout
    found, expected = (newest(gcs, tmp_path / n, n) for n in ("model", "straight"))
    assert found.step == 12
    tiny_runs.assert_same_bits(found, expected)
    assert not [name for name in gcs.names("bucket") if ".unfinished" in name or ".tmp" in name]
    lines = gcs.buckets["bucket"]["model/metrics.jsonl"].data.decode().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [12]
    for folder in ("best", "saved_model", "tensorboard/train", "tensorboard/eval"):
        assert any(name.startswith(f"model/{folder}/") for name in gcs.names("bucket"))

    # What lies there can be evaluated without its spec, and loaded from a copy.
    ended = run(gcs, [*TFIC, "evaluate", "--model_dir", "gs://bucket/model", "--cache_dir",
                      str(tmp_path)])  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert "evaluation of step 12 on 17 examples" in ended.stdout
    assert "model/evaluations.jsonl" in gcs.names("bucket")
    exported = tf.saved_model.load(downloaded(gcs, "model/saved_model/", tmp_path / "exported"))
    png = tf.io.encode_png(np.zeros([8, 8, 3], np.uint8))
    assert exported.serve(png[None])["kind"].shape == [1]


@pytest.mark.exhaustive
def test_csv_images_settings_and_weights_may_be_in_the_bucket(gcs, tmp_path):
    for number in range(12):
        image = tf.io.encode_png(np.full([8, 8, 3], 20 * number, np.uint8)).numpy()
        gcs.put("bucket", f"pictures/{number}.png", image)
    names = ["cat", "dog", "cow"]
    lines = [
        f"{'gs://bucket/pictures/' if n % 2 else ''}{n}.png,{names[n % 3]}\n" for n in range(12)
    ]
    gcs.put("bucket", "pictures/train.csv", "".join(["URIs,labels\n", *lines]).encode())
    gcs.put("bucket", "labels.txt", "\n".join(names).encode())
    gcs.put("bucket", "run.yml", b"learning_rate: 0.02\nlabels: gs://bucket/labels.txt\n")
    local = tmp_path / "other"
    tiny_runs.run(tiny_runs.TinySpec(), local, tiny_runs.write_records(tmp_path), train_steps=1)
    for path in glob.glob(f"{local}/checkpoints/*"):
        gcs.put("bucket", f"weights/{os.path.basename(path)}", read(path))
    command = arguments(
        tmp_path, "--config", "gs://bucket/run.yml", train_steps=4,
        train_metadata="gs://bucket/pictures/train.csv", eval_metadata="gs://bucket/pictures/train.csv",
        checkpoint_path="gs://bucket/weights/step-00000001",
    )  # fmt: skip
    at = command.index("--learning_rate")
    ended = run(gcs, [*command[:at], *command[at + 2 :]])
    assert ended.returncode == 0, ended.stderr
    record = json.loads(gcs.buckets["bucket"]["model/run.json"].data)
    assert record["settings"]["learning_rate"] == 0.02
    assert record["origins"]["learning_rate"] == "gs://bucket/run.yml"
    assert record["labels"][0]["class_names"] == names
    assert "model/warm_start.json" in gcs.names("bucket")


@pytest.mark.exhaustive
def test_what_passes_is_tried_again(gcs, tmp_path):
    gcs.fail(503, count=4)
    gcs.fail(429, count=4, method="PUT")
    ended = run(gcs, arguments(tmp_path, train_steps=2))
    assert ended.returncode == 0, ended.stderr
    assert newest(gcs, tmp_path / "model", "model").step == 2


@pytest.mark.slow
@pytest.mark.exhaustive_after(2)
@pytest.mark.parametrize("code", [401, 403])
@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_denied_access_ends_the_run_at_once(gcs, tmp_path, code, method):
    gcs.fail(code, count=10**9, method=method)
    ended = run(gcs, arguments(tmp_path))
    assert ended.returncode == 1
    line = ended.stderr.splitlines()[-1]
    assert line.startswith("DataError: gs://bucket/model")
    assert "access is denied" in line and "gcloud auth application-default login" in line
    assert "Traceback" not in ended.stderr
    assert "step 1" not in ended.stdout


@pytest.mark.slow
@pytest.mark.exhaustive_after(1)
@pytest.mark.parametrize(
    ("setting", "path"),
    [
        ("train_metadata", "gs://nowhere/train-*"),
        ("model_dir", "gs://nowhere/model"),
        ("labels", "gs://nowhere/labels.txt"),
    ],
)
def test_a_bucket_that_does_not_exist_is_named(gcs, tmp_path, setting, path):
    ended = run(gcs, arguments(tmp_path, **{setting: path}))
    assert ended.returncode == 1
    assert path in ended.stderr.splitlines()[-1]
    assert "Traceback" not in ended.stderr


@pytest.mark.exhaustive
def test_a_bucket_that_fails_for_good_leaves_the_last_checkpoint(gcs, tmp_path):
    command = arguments(tmp_path, "--plain", "--step_secs", "0.1", train_steps=200)
    process = subprocess.Popen(
        command, env=os.environ | gcs.environment(), stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    for line in process.stdout:
        if line.strip() == "step 6":
            gcs.fail(403, count=10**9, method="PUT")
            break
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 1
    assert "The checkpoint of step 8 cannot be written to gs://bucket/model/checkpoints" in errors
    assert "Traceback" not in errors
    gcs.recover()
    assert newest(gcs, tmp_path / "model", "model").step == 4


@pytest.mark.exhaustive
def test_a_checkpoint_that_the_bucket_refuses_is_not_taken_for_a_damaged_one(gcs, tmp_path):
    ended = run(gcs, arguments(tmp_path, "--plain", train_steps=8))
    assert ended.returncode == 0, ended.stderr
    before = [name for name in gcs.names("bucket") if name.startswith("model/checkpoints/")]
    gcs.fail(403, count=10**9, method="GET", path=r"checkpoints/step-00000008.*data")
    ended = run(gcs, arguments(tmp_path, "--plain", train_steps=12))
    assert ended.returncode == 1
    assert "access is denied" in ended.stderr.splitlines()[-1]
    assert "resumed" not in ended.stdout
    after = [name for name in gcs.names("bucket") if name.startswith("model/checkpoints/")]
    assert after == before


@pytest.mark.exhaustive
def test_two_workers_share_a_folder_in_a_bucket(gcs, tmp_path):
    command = arguments(tmp_path, "--plain", train_steps=8)
    ended = run(gcs, [*TFIC, "launch", "--workers", "2", "--", *command])
    assert ended.returncode == 0, ended.stdout
    found = newest(gcs, tmp_path / "model", "model")
    for name, data in ((n, s.data) for n, s in gcs.buckets["bucket"].items() if "data/" in n):
        (tmp_path / os.path.basename(name)).write_bytes(data)
    expected = tiny_runs.run(
        tiny_runs.plain_spec(), tmp_path / "one", str(tmp_path / "train-*"), train_steps=8
    )
    assert tiny_runs.largest_difference(found, expected) < 2e-5


@pytest.mark.exhaustive
def test_two_workers_with_different_folders_in_a_bucket_are_told(gcs, tmp_path):
    addresses = [f"127.0.0.1:{port}" for port in tiny_runs.free_ports(2)]
    processes = [
        subprocess.Popen(
            arguments(tmp_path, "--plain", train_steps=8, model_dir=f"gs://bucket/{folder}"),
            env=os.environ
            | gcs.environment()
            | {
                "TF_CONFIG": tf_config({"worker": addresses}, Task("worker", index)),
                "no_grpc_proxy": "127.0.0.1",
            },
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )
        for index, folder in enumerate(["one", "two"])
    ]  # fmt: skip
    for process in processes:
        error = process.communicate(timeout=240)[1]
        assert process.returncode == 1
        assert "RunMismatchError: worker 1 did not find the file that worker 0 has just" in error
    assert not [name for name in gcs.names("bucket") if name.startswith(("one/", "two/"))]


@pytest.mark.slow
def test_a_checkpoint_costs_few_requests(gcs):
    program = """
import numpy as np
from tf_image_classification.checkpoints.store import CheckpointStore
from tf_image_classification.system import files
store = CheckpointStore("gs://bucket/model/checkpoints", 2)
def mark(name):
    files.exists(f"gs://bucket/mark-{name}")
for step in range(7):
    if step == 3:
        mark("begin")
    store.save(step, {"v": np.ones(9), "w": np.ones(5)}, {})
mark("saved")
for _ in range(4):
    assert store.newest().step == 6
mark("read")
"""
    ended = run(gcs, [sys.executable, "-c", program])
    assert ended.returncode == 0, ended.stderr
    paths = [path for _, path in gcs.requests]
    begin, saved, found = (
        [i for i, path in enumerate(paths) if f"mark-{name}" in path]
        for name in ("begin", "saved", "read")
    )
    saves, reads = saved[0] - begin[-1] - 1, found[0] - saved[-1] - 1
    assert 4 <= saves <= 4 * 12  # each with the removal of an old one
    assert 4 <= reads <= 4 * 6


@pytest.mark.exhaustive
def test_curves_are_gathered_before_they_go_to_a_bucket(gcs, tmp_path):
    command = arguments(tmp_path, "--plain", "--save_summary_steps", "1", train_steps=30)
    ended = run(gcs, command)
    assert ended.returncode == 0, ended.stderr
    posts = [path for method, path in gcs.requests if method == "POST"]
    assert 1 <= sum("tensorboard/train/events" in path for path in posts) <= 3


@pytest.mark.slow
def test_a_bucket_is_searched_like_a_disk(gcs, tmp_path):
    for name in ("a.png", "one/b.png", "one/two/c.png", "one/.hidden/d.png", "one/e.txt"):
        gcs.put("bucket", f"tree/{name}", tf.io.encode_png(np.zeros([8, 8, 3], np.uint8)).numpy())
    gcs.put("bucket", "tree/one/up.csv", b"URIs,labels\n../a.png,cat\n./two/c.png,dog\n")
    gcs.put("bucket", "tree/one/gap.csv", b"URIs,labels\nb.png,cat\nnone.png,dog\n")
    program = """
import sys
from tf_image_classification.system import files
from tf_image_classification.dataset import table as sources
from tf_image_classification.errors import DataError
from tf_image_classification.distributed.cluster_spec import Task, tf_config
from tf_image_classification.labels import Label, LabelSchema
found = files.expand_patterns(["gs://bucket/tree/**/*.png"], option="x")
assert found == [f"gs://bucket/tree/{n}" for n in ("a.png", "one/b.png", "one/two/c.png")], found
assert files.expand_patterns(["gs://bucket/tree/*/*.png"], option="x") == found[1:2]
schema = LabelSchema((Label("kind", depth=2),))
options = sources.SourceOptions(option="train_metadata", cache_dir=sys.argv[1])
raw = sources.read_table(["gs://bucket/tree/one/up.csv"], schema, options)
assert [len(data) > 60 for data in raw.fetch([0, 1]).numpy()] == [True, True]
try:
    sources.read_table(["gs://bucket/tree/one/gap.csv"], schema, options)
except DataError as error:
    print(error)
"""
    ended = run(gcs, [sys.executable, "-c", program, str(tmp_path)])
    assert ended.returncode == 0, ended.stderr
    assert "gap.csv line 3: there is no file 'none.png'" in ended.stdout


@pytest.mark.slow
def test_records_of_a_bucket_that_changed_in_their_middle_are_read_anew(gcs, tmp_path):
    program = """
import sys
from tf_image_classification.dataset import tfrecord
index = tfrecord.index_file("gs://bucket/records", sys.argv[1])
print(index.reader().read([1])[0][:3])
"""
    for middle in (b"old", b"new"):
        with tf.io.TFRecordWriter(str(tmp_path / "records")) as writer:
            for data in (b"first", middle, b"last"):
                writer.write(data.ljust(100_000))
        gcs.put("bucket", "records", read(tmp_path / "records"))
        if middle == b"new":  # the service tells times in whole seconds here
            gcs.buckets["bucket"]["records"].time += 1
        ended = run(gcs, [sys.executable, "-c", program, str(tmp_path / "cache")])
        assert ended.stdout.strip() == str(middle), ended.stderr


@pytest.mark.parametrize(
    ("schemes", "path", "message"),
    [
        (["", "file"], "gs://bucket/x", "no access to gs://.*run on Linux"),
        (["", "file", "gs"], "s3://bucket/x", "s3:// cannot be read. Use gs:// or local files"),
    ],
)
def test_a_scheme_that_cannot_be_read_is_explained(monkeypatch, schemes, path, message):
    monkeypatch.setattr(tf.io.gfile, "get_registered_schemes", lambda: schemes)
    with pytest.raises(DataError, match=message):
        files.exists(path)
