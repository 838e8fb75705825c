"""Manifests: the fields that Kubeflow's published CRDs know, and what the pods make of them."""

import pytest
import yaml

from tf_image_classification.cli import submit
from tf_image_classification.cloud import kubernetes
from tf_image_classification.cloud.job import CloudJob
from tf_image_classification.cloud.package import Application
from tf_image_classification.errors import ConfigError
from tf_image_classification.tasks import read_cluster

APPLICATION = Application("/app", ("python", "train.py"), ("--epochs", "3"))

POD = {
    "metadata": {"annotations": dict, "labels": dict},
    "spec": {
        "serviceAccountName": str,
        "restartPolicy": str,
        "containers": [
            {
                "name": str, "image": str, "command": [str], "args": [str],
                "ports": [{"containerPort": int}], "resources": {"limits": dict},
                "env": [{"name": str, "value": str}],
            }
        ],
    },
}  # fmt: skip
REPLICA = {"replicas": int, "restartPolicy": str, "template": POD}
HEAD = {"apiVersion": str, "kind": str, "metadata": {"name": str, "labels": dict}}
KNOWN = {
    # kubeflow.org_tfjobs.yaml, version v1
    "TFJob": HEAD | {
        "spec": {
            "runPolicy": {"cleanPodPolicy": str, "activeDeadlineSeconds": int},
            "tfReplicaSpecs": dict.fromkeys(("Chief", "Worker", "Evaluator"), REPLICA),
        }
    },
    # trainer.kubeflow.org_trainingruntimes.yaml, version v1alpha1
    "TrainingRuntime": HEAD | {
        "spec": {
            "mlPolicy": {"numNodes": int},
            "template": {
                "spec": {
                    "replicatedJobs": [
                        {
                            "name": str,
                            "template": {
                                "metadata": {"labels": dict},
                                "spec": {
                                    "completionMode": str, "activeDeadlineSeconds": int,
                                    "backoffLimit": int, "template": POD,
                                },
                            },
                        }
                    ]
                }
            },
        }
    },
    # trainer.kubeflow.org_trainjobs.yaml, version v1alpha1
    "TrainJob": HEAD | {
        "spec": {
            "runtimeRef": {"apiGroup": str, "kind": str, "name": str},
            "trainer": {"numNodes": int},
        }
    },
}  # fmt: skip


def assert_known(value, known, where=""):
    """Every field is one of the CRD's, with its type."""
    if isinstance(known, dict):
        assert isinstance(value, dict), where
        for key, part in value.items():
            assert key in known, f"{where}.{key}"
            assert_known(part, known[key], f"{where}.{key}")
    elif isinstance(known, list):
        assert isinstance(value, list), where
        for part in value:
            assert_known(part, known[0], where)
    else:
        assert isinstance(value, known), where


def job(**changes):
    values = {"name": "pets", "image": "registry/pets", "workers": 3, "labels": ("team=vision",)}
    return CloudJob(**(values | changes))


@pytest.mark.parametrize("evaluator", [False, True])
def test_a_tfjob_has_the_fields_of_its_crd(evaluator):
    made = job(evaluator=evaluator, accelerator_type="nvidia.com/gpu", service_account="me")
    [manifest] = kubernetes.tf_job(made, APPLICATION, "cloud.yml")
    assert_known(manifest, KNOWN["TFJob"])
    replicas = manifest["spec"]["tfReplicaSpecs"]
    assert set(replicas) == {"Worker", "Evaluator"} if evaluator else {"Worker"}
    container = replicas["Worker"]["template"]["spec"]["containers"][0]
    assert container["name"] == "tensorflow"  # the operator looks for it
    assert container["resources"] == {"limits": {"nvidia.com/gpu": 1}}
    told = ["--evaluator", "task"] if evaluator else []
    assert container["args"] == ["--epochs", "3", *told]


def test_a_trainjob_brings_a_runtime_in_which_every_pod_knows_the_cluster():
    runtime, train = kubernetes.train_job(job(), APPLICATION, "cloud.yml")
    assert_known(runtime, KNOWN["TrainingRuntime"])
    assert_known(train, KNOWN["TrainJob"])
    assert train["spec"]["runtimeRef"]["name"] == runtime["metadata"]["name"]
    node = runtime["spec"]["template"]["spec"]["replicatedJobs"][0]
    container = node["template"]["spec"]["template"]["spec"]["containers"][0]
    environment = {entry["name"]: entry["value"] for entry in container["env"]}
    clusters = [read_cluster(environment | {"JOB_COMPLETION_INDEX": str(i)}) for i in range(3)]
    assert [cluster.rank for cluster in clusters] == [0, 1, 2]
    assert len({cluster.members for cluster in clusters}) == 1
    first = clusters[0]
    assert first.address(first.task) == "pets-node-0-0.pets:2222"


def test_a_trainjob_has_no_place_for_an_evaluator():
    with pytest.raises(ConfigError, match="no evaluator"):
        kubernetes.train_job(job(evaluator=True), APPLICATION, "cloud.yml")


@pytest.mark.parametrize("api", ["tfjob", "trainjob"])
def test_manifests_are_printed_or_written(tmp_path, monkeypatch, capsys, api):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").write_text("")
    (tmp_path / "cloud.yml").write_text("image: registry/pets\nname: pets\nworkers: 2\n")
    line = ["kubernetes", "--config", "cloud.yml", "--api", api]
    assert submit.main([*line, "--", "python", "train.py"]) == 0
    printed = list(yaml.safe_load_all(capsys.readouterr().out))
    assert submit.main([*line, "--output", "job.yaml", "--", "python", "train.py"]) == 0
    assert capsys.readouterr().out == "kubectl apply --filename job.yaml\n"
    written = list(yaml.safe_load_all((tmp_path / "job.yaml").read_text()))
    assert written == printed
    for manifest in written:
        assert_known(manifest, KNOWN[manifest["kind"]])


def test_keys_of_vertex_are_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").write_text("")
    (tmp_path / "cloud.yml").write_text("image: i\nmachine_type: n1-standard-8\n")
    with pytest.raises(SystemExit):
        submit.main(["kubernetes", "--config", "cloud.yml", "--", "python", "train.py"])
    assert "machine_type has no effect on this platform" in capsys.readouterr().err
