"""Manifests: held against the forms of Kubeflow's CRDs, and what the pods make of them."""

import jsonschema
import pytest
import yaml

from tf_image_classification.cli import submit
from tf_image_classification.cloud import kubernetes
from tf_image_classification.cloud.job import CloudJob
from tf_image_classification.cloud.packaging import Application
from tf_image_classification.distributed.cluster_spec import read_cluster
from tf_image_classification.errors import ConfigError

APPLICATION = Application("/app", ("python", "train.py"), ("--epochs", "3"))


def mapping(*required, **fields):
    """A schema that, other than a cluster, forbids fields that it does not know."""
    return {
        "type": "object", "properties": fields, "required": list(required),
        "additionalProperties": False,
    }  # fmt: skip


def many(schema):
    return {"type": "array", "items": schema, "minItems": 1}


def head(kind, version, **spec):
    fields = {"apiVersion": {"const": version}, "kind": {"const": kind}, "metadata": METADATA}
    return mapping("apiVersion", "kind", "metadata", "spec", **fields, **spec)


# Fields and types are those of the CRDs which kubeflow/training-operator and kubeflow/trainer keep
# in manifests/base/crds; patterns, constants and enums are what their webhooks and the API server
# ask for.
TEXT, COUNT = {"type": "string"}, {"type": "integer", "minimum": 0}
NAME = {"type": "string", "pattern": "^[a-z]([-a-z0-9]*[a-z0-9])?$", "maxLength": 63}
TEXTS = {"type": "object", "additionalProperties": TEXT}
METADATA = mapping("name", name=NAME, labels=TEXTS)


def pod(container, **metadata):
    """A pod's template with a container of this name."""
    return mapping(
        "spec",
        **metadata,
        spec=mapping(
            "containers",
            serviceAccountName=TEXT,
            restartPolicy={"enum": ["OnFailure", "Never"]},
            containers=many(
                mapping(
                    "name", "image", "command",
                    name={"const": container}, image=TEXT, command=many(TEXT),
                    args={"type": "array", "items": TEXT},
                    ports=many(mapping("containerPort", containerPort=COUNT)),
                    resources=mapping(limits={"type": "object", "additionalProperties": COUNT}),
                    env=many(mapping("name", name=TEXT, value=TEXT)),
                )
            ),
        ),
    )  # fmt: skip


REPLICA = mapping(
    "template",
    replicas=COUNT,
    restartPolicy={"enum": ["Always", "OnFailure", "Never", "ExitCode"]},
    template=pod("tensorflow", metadata=mapping(annotations=TEXTS)),
)
NODE = mapping(
    "name", "template",
    name=NAME,
    template=mapping(
        "metadata", "spec",
        metadata=mapping(
            "labels",
            labels=mapping(
                "trainer.kubeflow.org/trainjob-ancestor-step",
                **{"trainer.kubeflow.org/trainjob-ancestor-step": {"const": "trainer"}},
            ),
        ),
        spec=mapping(
            "template",
            completionMode={"const": "Indexed"}, activeDeadlineSeconds=COUNT, backoffLimit=COUNT,
            template=pod("node"),
        ),
    ),
)  # fmt: skip
KNOWN = {
    "TFJob": head(
        "TFJob", "kubeflow.org/v1",
        spec=mapping(
            "tfReplicaSpecs",
            runPolicy=mapping(
                cleanPodPolicy={"enum": ["Running", "All", "None"]}, activeDeadlineSeconds=COUNT
            ),
            tfReplicaSpecs=mapping(**dict.fromkeys(("Chief", "Worker", "Evaluator"), REPLICA)),
        ),
    ),
    "TrainingRuntime": head(
        "TrainingRuntime", "trainer.kubeflow.org/v1alpha1",
        spec=mapping(
            "template",
            mlPolicy=mapping(numNodes=COUNT),
            template=mapping("spec", spec=mapping("replicatedJobs", replicatedJobs=many(NODE))),
        ),
    ),
    "TrainJob": head(
        "TrainJob", "trainer.kubeflow.org/v1alpha1",
        spec=mapping(
            "runtimeRef",
            runtimeRef=mapping(
                "name", apiGroup={"const": "trainer.kubeflow.org"}, name=NAME,
                kind={"enum": ["TrainingRuntime", "ClusterTrainingRuntime"]},
            ),
            trainer=mapping(numNodes=COUNT),
        ),
    ),
}  # fmt: skip


def assert_known(manifest):
    """The manifest has the form that the CRD of its kind asks for."""
    jsonschema.validate(manifest, KNOWN[manifest["kind"]], jsonschema.Draft202012Validator)


def job(**changes):
    values = {"name": "pets", "image": "registry/pets", "workers": 3, "labels": ("team=vision",)}
    return CloudJob(**(values | changes))


@pytest.mark.parametrize("evaluator", [False, True])
def test_a_tfjob_has_the_fields_of_its_crd(evaluator):
    made = job(evaluator=evaluator, accelerator_type="nvidia.com/gpu", service_account="me")
    [manifest] = kubernetes.tf_job(made, APPLICATION, "cloud.yml")
    assert_known(manifest)
    replicas = manifest["spec"]["tfReplicaSpecs"]
    assert set(replicas) == ({"Worker", "Evaluator"} if evaluator else {"Worker"})
    container = replicas["Worker"]["template"]["spec"]["containers"][0]
    assert container["name"] == "tensorflow"  # the operator looks for it
    assert container["resources"] == {"limits": {"nvidia.com/gpu": 1}}
    told = ["--evaluator", "task"] if evaluator else []
    assert container["args"] == ["--epochs", "3", *told]


def test_a_trainjob_brings_a_runtime_in_which_every_pod_knows_the_cluster():
    runtime, train = kubernetes.train_job(job(), APPLICATION, "cloud.yml")
    assert_known(runtime)
    assert_known(train)
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


@pytest.mark.parametrize("make", [kubernetes.tf_job, kubernetes.train_job])
@pytest.mark.parametrize("name", ["My Pets", "pets_2", "-pets", "pets-", "2pets", "p" * 52])
def test_a_name_that_no_pod_can_have_is_refused(make, name):
    with pytest.raises(ConfigError, match="expected at most 51 lower case letters"):
        make(job(name=name), APPLICATION, "cloud.yml")


@pytest.mark.parametrize("make", [kubernetes.tf_job, kubernetes.train_job])
def test_the_longest_name_still_leaves_room_for_that_of_every_pod(make):
    for manifest in make(job(name="p" * 51), APPLICATION, "cloud.yml"):
        assert_known(manifest)
    pods = [f"{'p' * 51}-{kind}" for kind in ("worker-2", "evaluator-0", "node-0-2")]
    assert max(map(len, pods)) <= 63


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
        assert_known(manifest)


def test_keys_of_vertex_are_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").write_text("")
    (tmp_path / "cloud.yml").write_text("image: i\nmachine_type: n1-standard-8\n")
    with pytest.raises(SystemExit):
        submit.main(["kubernetes", "--config", "cloud.yml", "--", "python", "train.py"])
    assert "machine_type has no effect on this platform" in capsys.readouterr().err
