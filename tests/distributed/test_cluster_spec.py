import json

import pytest

from tf_image_classification.distributed.cluster_spec import Task, read_cluster, tf_config
from tf_image_classification.errors import ConfigError

WORKERS = {"worker": ["a:1", "b:2"]}


def config(cluster, kind="worker", index=0, **more):
    return {
        "TF_CONFIG": json.dumps({"cluster": cluster, "task": {"type": kind, "index": index}} | more)
    }


@pytest.mark.parametrize(
    "text", [None, "", "  ", "{}", '{"cluster": {}}', '{"environment": "cloud"}']
)
def test_no_cluster_is_one_machine(text):
    assert read_cluster({} if text is None else {"TF_CONFIG": text}) is None


def test_workers_alone_are_a_cluster_whose_first_worker_writes():
    cluster = read_cluster(config(WORKERS, index=1))
    assert cluster.workers == [Task("worker", 0), Task("worker", 1)]
    assert cluster.rank == 1
    assert cluster.address(cluster.task) == "b:2"
    assert not cluster.has_evaluator


@pytest.mark.parametrize("name", ["chief", "master"])
def test_the_chief_has_two_names_and_comes_first(name):
    cluster = read_cluster(config({**WORKERS, name: ["c:3"]}, kind=name))
    assert [str(task) for task in cluster.workers] == ["chief", "worker 0", "worker 1"]
    assert cluster.task == Task("chief", 0)
    assert cluster.rank == 0


def test_an_evaluator_need_not_be_in_the_cluster():
    cluster = read_cluster(config({"chief": ["c:3"]}, kind="evaluator"))
    assert cluster.is_evaluator
    assert not cluster.has_evaluator  # the others cannot know of it
    assert read_cluster(
        config({"chief": ["c:3"], "evaluator": ["e:1"]}, kind="chief")
    ).has_evaluator


@pytest.mark.parametrize("trial", ["", "7", 7, None])
@pytest.mark.parametrize("job", [{"scale_tier": "CUSTOM"}, '{"scale_tier": "CUSTOM"}', ""])
def test_what_vertex_adds_is_read_over(trial, job):
    value = {"cluster": WORKERS, "environment": "cloud", "job": job}
    value["task"] = {"type": "worker", "index": "1", "cloud": "x", "trial": trial}
    assert read_cluster({"TF_CONFIG": json.dumps(value)}).rank == 1


def test_kubeflows_sparse_cluster_is_read_when_it_names_every_worker():
    value = {"sparseCluster": {"worker": {"1": "b:2", "0": "a:1"}, "ps": []}}
    value["task"] = {"type": "worker", "index": 0}
    assert read_cluster({"TF_CONFIG": json.dumps(value)}).num_workers == 2
    del value["sparseCluster"]["worker"]["0"]
    with pytest.raises(ConfigError, match="enableDynamicWorker"):
        read_cluster({"TF_CONFIG": json.dumps(value)})


@pytest.mark.parametrize(
    ("pool", "index", "task"),
    [
        ("workerpool0", 0, Task("chief", 0)),
        ("workerpool1", 1, Task("worker", 1)),
        ("workerpool3", 0, Task("evaluator", 0)),
    ],
)
def test_worker_pools_are_chief_workers_and_evaluator(pool, index, task):
    pools = {"workerpool0": ["c:1"], "workerpool1": ["a:1", "b:1"], "workerpool3": ["e:1"]}
    value = {"cluster": pools, "task": {"type": pool, "index": index, "trial": ""}}
    cluster = read_cluster({"CLUSTER_SPEC": json.dumps(value)})
    assert cluster.task == task
    assert cluster.num_workers == 3
    assert cluster.has_evaluator


def test_beside_tf_config_cluster_spec_tells_of_the_evaluator():
    pools = {"workerpool0": ["c:1"], "workerpool3": ["e:1"]}
    spec = {"cluster": pools, "task": {"type": "workerpool0", "index": 0}}
    cluster = read_cluster(
        config({"chief": ["c:9"]}, kind="chief") | {"CLUSTER_SPEC": json.dumps(spec)}
    )
    assert cluster.has_evaluator
    assert cluster.address(cluster.task) == "c:9"


def test_what_is_written_is_read_again():
    task = Task("worker", 1)
    text = tf_config({"chief": ["c:1"], "worker": ["a:1", "b:1"]}, task, has_evaluator=True)
    cluster = read_cluster({"TF_CONFIG": text})
    assert (cluster.task, cluster.num_workers, cluster.has_evaluator) == (task, 3, True)


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"TF_CONFIG": "{"}, "not JSON.*unset it"),
        ({"TF_CONFIG": "[]"}, "expected a JSON object"),
        (config([]), "cluster is .*expected a JSON object"),
        (config({"worker": "a:1"}), "expected a list of host:port"),
        (config({"worker": ["a"]}), "'a' is no address"),
        (config({"worker": ["a:1", "a:1"]}), "a:1 is the address of more than one task"),
        (config({"worker": ["a:1"], "ps": ["p:1"]}), "parameter servers"),
        (config(WORKERS, kind="ps"), "parameter servers"),
        (config({"chief": ["a:1"], "master": ["b:1"]}, kind="chief"), "both chief and master"),
        (config({"chief": ["a:1", "b:1"]}, kind="chief"), "2 chiefs"),
        (config({"cook": ["a:1"]}, kind="cook"), "found tasks of the kind 'cook'"),
        (
            config(WORKERS, index=2),
            "this process is worker 2, but cluster names worker 0, worker 1",
        ),
        (config(WORKERS, kind="chief"), "this process is chief 0"),
        (config({}, kind="worker"), "names nobody"),
        (config(WORKERS, index=-1), "task index is -1"),
        (config(WORKERS, index=True), "task index is True"),
        (config(WORKERS, kind="evaluator", index=1), "evaluator 1"),
        ({"TF_CONFIG": json.dumps({"cluster": WORKERS})}, "task is None"),
        ({"TF_CONFIG": json.dumps({"cluster": WORKERS, "task": {"index": 0}})}, "no type"),
        ({"CLUSTER_SPEC": '{"cluster": {"workerpool7": []}}'}, "no worker pool 'workerpool7'"),
    ],
)
def test_a_wrong_description_is_explained(environment, message):
    with pytest.raises(ConfigError, match=message):
        read_cluster(environment)


def slurm(rank, node, **changes):
    return {
        "SLURM_STEP_NUM_TASKS": "5",
        "SLURM_STEP_NODELIST": "gpu[2,09-10]",
        "SLURM_STEP_TASKS_PER_NODE": "2(x2),1",
        "SLURM_PROCID": str(rank),
        "SLURM_NODEID": str(node),
        "SLURM_JOB_ID": "123456",
        "SLURM_STEP_ID": "0",
    } | changes


def test_a_slurm_step_is_a_cluster_of_workers_in_the_order_of_their_ranks():
    cluster = read_cluster(slurm(3, 1))
    hosts = [cluster.address(task).partition(":")[0] for task in cluster.workers]
    assert hosts == ["gpu2", "gpu2", "gpu09", "gpu09", "gpu10"]
    assert len({address for _, address in cluster.members}) == 5
    assert (cluster.rank, cluster.origin) == (3, "SLURM")
    assert read_cluster(slurm(3, 1, SLURM_STEP_ID="1")).members != cluster.members


def test_one_task_of_slurm_is_one_machine_and_tf_config_takes_precedence():
    assert read_cluster(slurm(0, 0, SLURM_STEP_NUM_TASKS="1")) is None
    assert read_cluster(slurm(3, 1) | config(WORKERS)).origin == "TF_CONFIG"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"SLURM_NODEID": "0"}, "not numbered node by node.*--distribution=block"),
        ({"SLURM_STEP_NODELIST": "gpu[1-x]"}, r"other SLURM_\* variables do not fit"),
        ({"SLURM_STEP_TASKS_PER_NODE": "1"}, "not numbered node by node"),
    ],
)
def test_slurm_variables_that_do_not_fit_are_explained(changes, message):
    with pytest.raises(ConfigError, match=message):
        read_cluster(slurm(3, 1, **changes))


@pytest.mark.parametrize(
    ("text", "hosts"),
    [
        ("n1", ["n1"]),
        ("n1,m[01-02]", ["n1", "m01", "m02"]),
        ("r[1-2]n[1,3].site", ["r1n1.site", "r1n3.site", "r2n1.site", "r2n3.site"]),
    ],
)
def test_short_forms_of_host_names(text, hosts):
    changes = {"SLURM_STEP_NODELIST": text, "SLURM_STEP_NUM_TASKS": str(2 * len(hosts))}
    changes["SLURM_STEP_TASKS_PER_NODE"] = f"2(x{len(hosts)})"
    found = read_cluster(slurm(0, 0, **changes))
    assert [address.partition(":")[0] for _, address in found.members][::2] == hosts


@pytest.mark.parametrize(
    "changes",
    [
        {"JOB_COMPLETION_INDEX": ""},
        {"TFIC_NUM_WORKERS": "two"},
        {"TFIC_WORKER_ADDRESS": "run.service:2222"},
    ],
)
def test_an_indexed_job_that_is_told_too_little_is_explained(changes):
    told = {
        "TFIC_NUM_WORKERS": "2",
        "TFIC_WORKER_ADDRESS": "run-{index}.service:2222",
        "JOB_COMPLETION_INDEX": "1",
    }
    assert read_cluster(told).rank == 1
    with pytest.raises(ConfigError, match="expected two numbers and an address"):
        read_cluster(told | changes)
