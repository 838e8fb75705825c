"""Submitting through the door that users use: real clients, fake services on loopback."""

import io
import json
import os
import shlex
import shutil
import subprocess
import sys
import tarfile

import google.cloud
import pytest
import yaml
from fake_vertex import FakeVertex

import tiny_runs
from fake_gcs import FakeGcs
from tf_image_classification.cli import submit
from tf_image_classification.cloud import packaging

JOB = {
    "project": "p", "region": "europe-west4", "name": "pets", "output_dir": "gs://bucket/run",
    "machine_type": "n1-standard-8", "accelerator_type": "NVIDIA_TESLA_T4",
    "accelerator_count": 2, "workers": 3, "evaluator": True,
    "evaluator_machine_type": "n1-standard-4", "service_account": "me@p.iam",
    "spot": True, "timeout_secs": 3600, "labels": {"team": "vision"},
}  # fmt: skip


@pytest.fixture
def application(tmp_path, monkeypatch):
    """A user's folder with a script and things that must not be sent."""
    folder = tmp_path / "application"
    (folder / "models").mkdir(parents=True)
    (folder / "train.py").write_text("import sys, helper\nprint('ran', sys.argv, helper.NAME)\n")
    (folder / "helper.py").write_text("NAME = 'help'\n")
    (folder / ".secret").write_text("key")
    for name in ("run.json", "labels.json"):
        (folder / "models" / name).write_text("{}")
    monkeypatch.chdir(folder)
    return folder


def write(tmp_path, **changes):
    path = tmp_path / "cloud.yml"
    values = {k: v for k, v in (JOB | changes).items() if v is not None}
    path.write_text(yaml.safe_dump(values))
    return str(path)


def run(*arguments, command=("python", "train.py", "--epochs", "3")):
    return submit.main([*arguments, "--", *command])


def dry_run(capsys, config):
    assert run("vertex", "--config", config, "--dry_run") == 0
    output = capsys.readouterr().out
    described, _, rest = output.partition("\n# job.yaml\n")
    file, _, line = rest.partition("\n# the same job with gcloud\n")
    return json.loads(described), yaml.safe_load(file), line


def test_the_job_has_a_pool_for_chief_workers_and_evaluator(application, tmp_path, capsys):
    described, config, line = dry_run(capsys, write(tmp_path, image="registry/pets"))
    assert described["displayName"] == "pets"
    assert described["labels"] == {"team": "vision"}
    spec = described["jobSpec"]
    chief, workers, servers, evaluator = spec["workerPoolSpecs"]
    assert [pool["replicaCount"] for pool in (chief, workers, evaluator)] == ["1", "2", "1"]
    assert servers == {}
    assert chief["machineSpec"]["acceleratorCount"] == 2
    assert evaluator["machineSpec"] == {"machineType": "n1-standard-4"}
    assert chief["containerSpec"] == {
        "imageUri": "registry/pets", "command": ["python", "train.py"], "args": ["--epochs", "3"],
    }  # fmt: skip
    assert spec["scheduling"] == {
        "timeout": "3600s", "restartJobOnWorkerRestart": True, "strategy": "SPOT",
    }  # fmt: skip
    assert spec["baseOutputDirectory"] == {"outputUriPrefix": "gs://bucket/run"}
    assert config == spec
    assert line.startswith("gcloud ai custom-jobs create --project=p --region=europe-west4")


def test_a_file_of_ml_engine_is_submitted_with_what_its_command_said(application, tmp_path, capsys):
    path = tmp_path / "old.yml"
    old = {"scaleTier": "CUSTOM", "masterType": "standard_gpu", "workerCount": 2}
    beside = {"project": "p", "output_dir": "gs://bucket/run", "image": "registry/pets"}
    path.write_text(yaml.safe_dump(beside | {"trainingInput": old}))
    described, _, line = dry_run(capsys, str(path))
    chief, workers = described["jobSpec"]["workerPoolSpecs"]
    assert chief["machineSpec"]["acceleratorType"] == "NVIDIA_TESLA_T4"
    assert workers["replicaCount"] == "2"
    assert "--project=p" in line


def test_what_is_sent_is_what_the_dry_run_shows(application, tmp_path, capsys):
    config = write(tmp_path, image="registry/pets")
    described, _, _ = dry_run(capsys, config)
    with FakeVertex() as fake:
        config = write(tmp_path, image="registry/pets", api_endpoint=fake.url)
        assert run("vertex", "--config", config) == 0
    [(path, sent)] = fake.received
    assert path == "/v1/projects/p/locations/europe-west4/customJobs"
    assert "created projects/p/locations/europe-west4/customJobs/123" in capsys.readouterr().out
    from google.cloud import aiplatform_v1

    as_messages = [aiplatform_v1.CustomJob.from_json(json.dumps(j)) for j in (sent, described)]
    assert as_messages[0] == as_messages[1]
    assert as_messages[0].job_spec.worker_pool_specs[1].replica_count == 2


@pytest.mark.slow_after(2)
@pytest.mark.parametrize("staging", [None, "gs://bucket", "gs://bucket/", "gs://bucket/a/b"])
def test_packages_go_to_the_staging_bucket(application, tmp_path, monkeypatch, staging):
    with FakeVertex() as fake, FakeGcs("bucket") as gcs:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", gcs.url)
        more = {"staging_bucket": staging, "api_endpoint": fake.url}
        assert run("vertex", "--config", write(tmp_path, executor_image="registry/tf", **more)) == 0
        stored = {name: s.data for name, s in gcs.buckets["bucket"].items()}
    pool = fake.received[0][1]["jobSpec"]["workerPoolSpecs"][0]["pythonPackageSpec"]
    assert pool["pythonModule"] == "tfic_application.run"
    assert [uri.removeprefix("gs://bucket/") for uri in pool["packageUris"]] == sorted(
        stored, key=lambda name: "application" in name
    )
    assert len(stored) == 2
    assert not any(data == b"key" for data in stored.values())


def install(folder, target, application):
    """Install what would be sent, without what it depends on."""
    sent = packaging.application_files(application)
    packages = (
        packaging.framework_package(),
        packaging.application_package(application, sent, "cpu"),
    )
    for name, content in packages:
        (folder / name).write_bytes(content)
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
        pip += ["--no-build-isolation", "--target", str(target), str(folder / name)]
        subprocess.run(pip, check=True, capture_output=True)


@pytest.mark.slow
def test_the_packages_that_are_sent_can_be_installed_and_run(application, tmp_path):
    target = tmp_path / "site"
    install(tmp_path, target, packaging.application_of(["python", "train.py"]))
    ended = subprocess.run(
        [sys.executable, "-m", packaging.MODULE, "--epochs", "3"],
        env=os.environ | {"PYTHONPATH": str(target)}, cwd=tmp_path, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    assert ended.stdout == "ran ['train.py', '--epochs', '3'] help\n"
    where = "import tf_image_classification.cloud.vertex as v; print(v.__file__)"
    ended = subprocess.run(
        [sys.executable, "-c", where],
        env=os.environ | {"PYTHONPATH": str(target)}, cwd=tmp_path, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    assert ended.stdout.startswith(str(target))


@pytest.mark.exhaustive
def test_the_packages_train_as_the_tasks_of_a_vertex_job(tmp_path):
    """Chief, worker and evaluator, each with the variables that Vertex AI sets for it."""
    folder = tmp_path / "application"
    folder.mkdir()
    shutil.copyfile(tiny_runs.__file__, folder / "tiny_runs.py")
    (folder / "train.py").write_text(
        "import tiny_runs\nfrom tf_image_classification import train_estimator\n"
        "train_estimator.train(tiny_runs.plain_spec())\n"
    )
    target = tmp_path / "site"
    made = packaging.application_of(["python", str(folder / "train.py")])
    install(tmp_path, target, made)
    flags = [
        "--train_metadata", tiny_runs.write_records(tmp_path),
        "--eval_metadata", tiny_runs.write_records(tmp_path, "eval", count=17),
        "--cache_dir", str(tmp_path / "cache"), "--image_size", "8", "--batch_size", "6",
        "--train_steps", "8", "--save_checkpoints_steps", "4", "--eval_throttle_secs", "0",
        "--noprogress",
    ]  # fmt: skip
    chief, worker = (f"127.0.0.1:{port}" for port in tiny_runs.free_ports(2))
    pools = {"workerpool0": [chief], "workerpool1": [worker], "workerpool3": ["evaluator:2222"]}
    processes = {}
    for kind, pool in (("chief", 0), ("worker", 1), ("evaluator", 3)):
        task = {"type": kind, "index": 0, "trial": "", "cloud": "x"}
        config = {"cluster": {"chief": [chief], "worker": [worker]}, "task": task}
        spec = {"cluster": pools, "task": task | {"type": f"workerpool{pool}"}}
        base = str(tmp_path / "output")
        environment = os.environ | {
            "TF_CONFIG": json.dumps(config | {"environment": "cloud", "job": "{}"}),
            "CLUSTER_SPEC": json.dumps(spec | {"environment": "cloud"}),
            "AIP_MODEL_DIR": f"{base}/model/", "AIP_CHECKPOINT_DIR": f"{base}/checkpoints/",
            "AIP_TENSORBOARD_LOG_DIR": f"{base}/logs/", "PYTHONPATH": str(target),
            "CLOUD_ML_HP_METRIC_FILE": str(tmp_path / kind / "metrics"), "CLOUD_ML_TRIAL_ID": "7",
        }  # fmt: skip
        processes[kind] = subprocess.Popen(
            [sys.executable, "-m", packaging.MODULE, *flags], env=environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
    outputs = {kind: process.communicate(timeout=240)[0] for kind, process in processes.items()}
    assert [process.returncode for process in processes.values()] == [0, 0, 0], outputs
    output = tmp_path / "output"
    assert {path.name for path in output.iterdir() if path.name[0] != "."} == {
        "best", "checkpoints", "data.json", "labels.json", "logs", "metrics.jsonl", "model",
        "run.json", "saved_model",
    }  # fmt: skip
    assert [line["step"] for line in tiny_runs.evaluations(output)] == [4, 8]
    assert (output / "model" / "saved_model.pb").exists()
    reported = (tmp_path / "evaluator" / "metrics").read_text().splitlines()
    reported = [json.loads(line) for line in reported]
    assert {line["global_step"] for line in reported if "accuracy" in line} == {"4", "8"}
    assert {line["trial"] for line in reported} == {"7"}
    assert not (tmp_path / "chief").exists()


def test_a_package_holds_no_hidden_files_no_models_and_no_images(application, capsys):
    made = packaging.application_of(["python", "train.py"])
    assert run("docker", "--output", "image", "--image", "registry/pets") == 0
    sent = packaging.application_files(made)
    name, content = packaging.application_package(made, sent, "cpu")
    assert packaging.application_package(made, sent, "cpu") == (name, content)
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        names = [entry.partition("files/")[2] for entry in archive.getnames() if "files/" in entry]
    assert sorted(names) == ["helper.py", "train.py"]


def ways_of_sending(tmp_path):
    """The lines that send the files of an application."""
    return (
        ("vertex", "--config", write(tmp_path, executor_image="i"), "--dry_run"),
        ("docker", "--output", str(tmp_path / "context"), "--image", "registry/pets"),
    )


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("account.json", '{"type": "service_account", "private_key": "x"}'),
        ("notes.txt", 'kept for later: {"refresh_token": "x", "client_id": "y"}'),
        ("model.bin", "\0\0-----BEGIN RSA " + "PRIVATE KEY-----"),
    ],
)
def test_a_secret_is_not_sent_whatever_its_file_is_called(
    application, tmp_path, capsys, name, content
):
    (application / name).write_text(content)
    for line in ways_of_sending(tmp_path):
        with pytest.raises(SystemExit):
            run(*line)
        error = capsys.readouterr().err
        assert f"{application / name}, line 1, holds a" in error and "would be sent" in error
        assert not os.path.exists(tmp_path / "context")
        assert run(*line[:-1], *line[-1:], "--allow_secret", name) == 0
        assert "(allowed)" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["train.py", "no_such_file", "arguments"])
def test_a_secret_that_is_not_there_cannot_be_allowed(application, tmp_path, capsys, name):
    for line in ways_of_sending(tmp_path):
        with pytest.raises(SystemExit):
            run(*line, "--allow_secret", name)
        assert f"--allow_secret {name}: no key or token was found" in capsys.readouterr().err


def test_a_secret_in_the_command_is_not_sent(application, tmp_path, capsys):
    command = ("python", "train.py", "--epochs", "3", "--key", "gh" + "p_" + 36 * "a")
    kubernetes = {"name": "pets", "image": "i", "workers": 2}
    config = tmp_path / "kubernetes.yml"
    config.write_text(yaml.safe_dump(kubernetes))
    lines = (*ways_of_sending(tmp_path), ("kubernetes", "--config", str(config)))
    for line in lines:
        with pytest.raises(SystemExit):
            run(*line, command=command)
        captured = capsys.readouterr()
        assert "Argument 4 of the command holds a token of GitHub" in captured.err
        assert "aaaa" not in captured.out + captured.err
        assert run(*line, "--allow_secret", "arguments", command=command) == 0
        capsys.readouterr()


def test_the_list_of_what_is_sent_is_printed_with_sizes(application, tmp_path, capsys):
    (application / "image.bin").write_bytes(bytes(2_500_000))
    expected = [
        f"3 files of {application}, 2.5 MB in all, will be sent:",
        "  2.5 MB  image.bin", "  14 B  helper.py",
        "left out:", "  .secret: hidden", "  models: a model folder",
    ]  # fmt: skip
    for line in ways_of_sending(tmp_path):
        assert run(*line) == 0
        printed = [text.split() for text in capsys.readouterr().err.splitlines()]
        assert all(text.split() in printed for text in expected), printed


def test_a_dry_run_writes_and_sends_nothing(application, tmp_path, capsys):
    out = tmp_path / "context"
    assert run("docker", "--output", str(out), "--image", "i", "--dry_run") == 0
    captured = capsys.readouterr()
    assert "helper.py" in captured.err and "docker build" in captured.out and not out.exists()
    config = tmp_path / "kubernetes.yml"
    config.write_text(yaml.safe_dump({"name": "pets", "image": "i"}))
    line = ("kubernetes", "--config", str(config), "--output", str(tmp_path / "job.yaml"))
    assert run(*line, "--dry_run") == 0
    captured = capsys.readouterr()
    assert "no files are sent: those of the image i are used" in captured.err
    assert yaml.safe_load(captured.out)["kind"] == "TFJob"
    assert not (tmp_path / "job.yaml").exists()
    with pytest.raises(SystemExit):
        run(*line, "--allow_secret", "train.py")
    assert "has no effect: no files are sent" in capsys.readouterr().err


def test_a_script_that_would_not_be_sent_is_refused(application, tmp_path, capsys):
    (tmp_path / "elsewhere.py").write_text("print('ran')\n")
    (application / "linked.py").symlink_to(tmp_path / "elsewhere.py")
    for line in ways_of_sending(tmp_path):
        with pytest.raises(SystemExit):
            run(*line, command=("python", "linked.py"))
        error = capsys.readouterr().err
        assert "The script linked.py" in error and "a link out of the folder" in error


def test_settings_in_json_are_sent(application):
    (application / "settings.json").write_text('{"epochs": 3}')
    made = packaging.application_of(["python", "train.py"])
    assert "settings.json" in packaging.application_files(made)


def test_requirements_become_those_of_the_package(application):
    text = "# ours\nnumpy>=1.26  # arrays\n\n  pillow[xmp] ==11.*; python_version > '3'\n"
    (application / "requirements.txt").write_text(text + "tool @ https://example.com/tool.whl\n")
    made = packaging.application_of(["python", "train.py"])
    _, content = packaging.application_package(made, packaging.application_files(made), "cpu")
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        [name] = [name for name in archive.getnames() if name.endswith("/pyproject.toml")]
        project = archive.extractfile(name).read().decode()
    [line] = [line for line in project.splitlines() if line.startswith("dependencies")]
    assert json.loads(line.partition(" = ")[2])[2:] == [
        "numpy>=1.26", "pillow[xmp] ==11.*; python_version > '3'",
        "tool @ https://example.com/tool.whl",
    ]  # fmt: skip


@pytest.mark.parametrize("line", ["-r more.txt", "--index-url https://x", "./tool", "git+ssh://x"])
def test_a_requirement_that_no_package_can_have_is_named(application, tmp_path, capsys, line):
    (application / "requirements.txt").write_text(f"numpy\n{line}\n")
    with pytest.raises(SystemExit):
        run("vertex", "--config", write(tmp_path, executor_image="i"), "--dry_run")
    assert f"requirements.txt, line 2: '{line}' cannot be asked for" in capsys.readouterr().err


def test_a_folder_for_docker_holds_application_and_framework(application, tmp_path, capsys):
    out = tmp_path / "context"
    assert run("docker", "--output", str(out), "--image", "registry/pets", "--gpu") == 0
    text = (out / "Dockerfile").read_text()
    assert "tensorflow[and-cuda]" in text
    assert 'CMD ["python", "train.py", "--epochs", "3"]' in text
    assert (out / "application" / "helper.py").exists()
    assert (out / "framework" / "src" / "tf_image_classification" / "config" / "groups.py").exists()
    assert f"docker build --tag registry/pets {out}" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        run("docker", "--output", str(out), "--image", "registry/pets")
    assert "is not empty" in capsys.readouterr().err


def test_a_study_becomes_a_tuning_job(application, tmp_path, capsys):
    study = {
        "metric": "accuracy", "goal": "maximize", "max_trials": 4, "parallel_trials": 2,
        "parameters": {
            "learning_rate": {"low": 0.001, "high": 0.1, "log": True},
            "warmup_steps": {"low": 0, "high": 100},
            "batch_size": {"choices": [64, 32, 64]},
            "nesterov": {"choices": [True, False]},
        },
    }  # fmt: skip
    with FakeVertex() as fake:
        config = write(tmp_path, image="i", study=study, api_endpoint=fake.url)
        described, file, line = dry_run(capsys, config)
        assert run("vertex", "--config", config) == 0
    [(path, sent)] = fake.received
    assert path.endswith("/hyperparameterTuningJobs")
    parameters = {p["parameterId"]: p for p in described["studySpec"]["parameters"]}
    assert parameters["learning_rate"]["scaleType"] == "UNIT_LOG_SCALE"
    assert parameters["warmup_steps"]["integerValueSpec"] == {"minValue": "0", "maxValue": "100"}
    assert parameters["batch_size"]["discreteValueSpec"] == {"values": [32.0, 64.0]}
    assert parameters["nesterov"]["categoricalValueSpec"] == {"values": ["true", "false"]}
    from google.cloud import aiplatform_v1

    jobs = [
        aiplatform_v1.HyperparameterTuningJob.from_json(json.dumps(j)) for j in (sent, described)
    ]
    assert jobs[0] == jobs[1]
    assert "--max-trial-count=4 --parallel-trial-count=2" in line
    assert set(file) == {"studySpec", "trialJobSpec"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"project": None, "image": "i"}, "project is missing"),
        ({"output_dir": None, "image": "i"}, "output_dir is missing"),
        ({"name": "", "image": "i"}, "name is missing"),
        ({}, "image is missing. Make one with tfic submit docker"),
    ],
)
def test_what_vertex_needs_is_asked_for(application, tmp_path, capsys, changes, message):
    with pytest.raises(SystemExit):
        run("vertex", "--config", write(tmp_path, **changes), "--dry_run")
    assert message in capsys.readouterr().err


def test_a_refusal_of_vertex_is_told(application, tmp_path, capsys):
    with FakeVertex() as fake:
        fake.refusal = (403, "the account may not create jobs")
        config = write(tmp_path, image="i", api_endpoint=fake.url)
        with pytest.raises(SystemExit) as ended:
            run("vertex", "--config", config)
    assert ended.value.code == 1
    assert "the account may not create jobs" in capsys.readouterr().err


def test_a_service_that_is_not_there_is_told(application, tmp_path, capsys):
    [port] = tiny_runs.free_ports(1)
    config = write(tmp_path, image="i", api_endpoint=f"http://127.0.0.1:{port}")
    with pytest.raises(SystemExit):
        run("vertex", "--config", config)
    assert "ConfigError: Vertex AI did not create the job" in capsys.readouterr().err


def test_a_refusal_of_the_bucket_is_told_and_no_job_made(
    application, tmp_path, monkeypatch, capsys
):
    with FakeVertex() as fake, FakeGcs("another") as gcs:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", gcs.url)
        config = write(tmp_path, executor_image="i", api_endpoint=fake.url)
        with pytest.raises(SystemExit):
            run("vertex", "--config", config)
        assert fake.received == []
    printed = capsys.readouterr().err
    assert "ConfigError: Packages cannot be stored in gs://bucket/tfic-staging" in printed
    assert "The specified bucket does not exist" in printed


@pytest.mark.parametrize("image", ["image", "executor_image"])
def test_without_credentials_a_user_is_told_how_to_sign_in(
    application, tmp_path, monkeypatch, capsys, image
):
    for name in ("GOOGLE_APPLICATION_CREDENTIALS", "STORAGE_EMULATOR_HOST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path / "nothing"))
    with pytest.raises(SystemExit):
        run("vertex", "--config", write(tmp_path, **{image: "i"}))
    assert "Sign in: gcloud auth application-default login" in capsys.readouterr().err


def test_the_line_for_gcloud_can_be_pasted(application, tmp_path, capsys):
    _, _, line = dry_run(capsys, write(tmp_path, image="i", name="Pets; again"))
    assert "--display-name=Pets; again" in shlex.split(line)


def test_a_dry_run_needs_no_client(application, tmp_path, monkeypatch, capsys):
    for module in ("google.cloud.storage", "google.cloud.aiplatform_v1", "google.auth"):
        monkeypatch.setitem(sys.modules, module, None)
    for image in ("image", "executor_image"):
        assert dry_run(capsys, write(tmp_path, **{image: "i"}))


@pytest.mark.parametrize(
    ("missing", "image"),
    [("google.cloud.storage", "executor_image"), ("google.cloud.aiplatform_v1", "image")],
)
def test_a_missing_client_names_the_extra(
    application, tmp_path, monkeypatch, capsys, missing, image
):
    monkeypatch.setitem(sys.modules, missing, None)
    monkeypatch.delattr(google.cloud, missing.rpartition(".")[2], raising=False)
    with pytest.raises(SystemExit):
        run("vertex", "--config", write(tmp_path, **{image: "i"}))
    assert "pip install 'tf_image_classification[cloud]'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ((), "missing: COMMAND"),
        (("python", "missing.py"), "There is no script 'missing.py'"),
        (("bash", "run.sh"), "Expected python SCRIPT.py"),
    ],
)
def test_only_an_application_can_be_sent(application, tmp_path, capsys, command, message):
    try:
        status = run("vertex", "--config", write(tmp_path, image="i"), "--dry_run", command=command)
    except SystemExit as end:
        status = end.code
    assert status and message in capsys.readouterr().err
