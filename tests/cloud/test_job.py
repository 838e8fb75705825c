import pytest
import yaml

from tf_image_classification.cloud.job import CloudJob, read_job
from tf_image_classification.config.search_space import Parameter
from tf_image_classification.errors import ConfigError


def read(tmp_path, text, **more):
    path = tmp_path / "cloud.yml"
    path.write_text(text if isinstance(text, str) else yaml.safe_dump(text))
    return read_job(str(path), **more)


def test_a_job_is_read_with_defaults_for_what_is_not_given(tmp_path):
    job, notes = read(tmp_path, "project: p\nworkers: 3\nlabels: {team: vision}\n")
    assert job == CloudJob(project="p", workers=3, labels=("team=vision",))
    assert notes == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("projekt: p", "unknown key 'projekt'. Did you mean project?"),
        ("workers: 0", "workers is 0, expected a whole number of at least 1"),
        ("spot: often", "spot is 'often', expected true or false"),
        ("output_dir: s3://b", "output_dir is 's3://b', expected gs://bucket/folder"),
        ("image: a\nexecutor_image: b", "exclude each other"),
        ("accelerator_count: 2", "no effect without accelerator_type"),
        ("evaluator_machine_type: n1-standard-4", "no effect without evaluator"),
        ("image: i\nstaging_bucket: gs://b", "staging_bucket has no effect without executor_image"),
        ("labels: {Team: x}", "'Team=x' is not of the form"),
        ("labels: [a=1, a=2]", "label 'a' is given twice"),
        ("2: p", "unknown key 2"),
        ("workers: 1\nworkers: 2", "'workers' is given twice"),
        ("- a", "holds no settings"),
        ("study: {metric: accuracy}", "study: goal is missing"),
        ("study: {metrik: a}", "unknown key 'metrik'. Did you mean metric?"),
    ],
)
def test_a_wrong_description_names_file_and_key(tmp_path, text, message):
    with pytest.raises(ConfigError, match=message) as caught:
        read(tmp_path, text)
    assert "cloud.yml" in str(caught.value)


def test_a_key_without_effect_on_the_platform_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="region has no effect on this platform"):
        read(tmp_path, "region: europe-west4", refused=("region",))


STUDY = {
    "metric": "accuracy", "goal": "maximize", "max_trials": 4, "parallel_trials": 2,
    "parameters": {
        "learning_rate": {"low": 0.001, "high": 0.1, "log": True},
        "optimizer": {"choices": ["adamw", "momentum"]},
    },
}  # fmt: skip


def test_a_study_varies_settings(tmp_path):
    study = read(tmp_path, {"study": STUDY})[0].study
    assert (study.metric, study.max_trials, study.parallel_trials) == ("accuracy", 4, 2)
    assert study.parameters == (
        Parameter("learning_rate", 0.001, 0.1, True),
        Parameter("optimizer", choices=("adamw", "momentum")),
    )


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("learning_rat", {"low": 0.1, "high": 1}, "Did you mean learning_rate"),
        ("learning_rate", {"low": 1, "high": 0.1}, "low must be less than high"),
        ("learning_rate", {"low": 0, "high": 0.1, "log": True}, "low above 0"),
        ("learning_rate", {"low": 0.1}, "either low and high, or choices"),
        ("optimizer", {"choices": ["adamx"]}, "Did you mean adam"),
        ("batch_size", {"low": 0, "high": 8}, "batch_size is 0"),
        ("batch_size", {"choices": 3}, "expected a list"),
    ],
)
def test_a_parameter_that_no_setting_could_have_is_refused(tmp_path, name, given, message):
    with pytest.raises(ConfigError, match=message):
        read(tmp_path, {"study": STUDY | {"parameters": {name: given}}})


OLD = {
    "trainingInput": {
        "serviceAccount": "me@p.iam",
        "scaleTier": "CUSTOM", "masterType": "complex_model_m", "workerType": "complex_model_m",
        "parameterServerType": "large_model", "workerCount": 9, "parameterServerCount": 3,
        "runtimeVersion": "1.10", "region": "europe-west1",
    }
}  # fmt: skip


def test_a_file_of_ml_engine_is_translated_and_says_what_is_left_out(tmp_path):
    job, notes = read(tmp_path, OLD)
    assert (job.machine_type, job.workers, job.region) == ("n1-highcpu-16", 10, "europe-west1")
    assert job.service_account == "me@p.iam"
    assert any("parameterServerCount 3" in note for note in notes)
    assert any("runtimeVersion 1.10" in note for note in notes)


@pytest.mark.parametrize(
    ("beside", "message"),
    [
        ({"region": "us-east1"}, "region stands beside trainingInput and follows from it"),
        ({"projekt": "p"}, "unknown key 'projekt'. Did you mean project"),
    ],
)
def test_what_stands_beside_an_old_job_is_checked(tmp_path, beside, message):
    with pytest.raises(ConfigError, match=message):
        read(tmp_path, OLD | beside)


@pytest.mark.parametrize(
    ("tier", "machine", "accelerator", "workers"),
    [
        ("BASIC", "n1-standard-4", "", 1),
        ("BASIC_GPU", "n1-standard-8", "NVIDIA_TESLA_T4", 1),
        ("STANDARD_1", "n1-highcpu-8", "", 5),
    ],
)
def test_scale_tiers_become_machines(tmp_path, tier, machine, accelerator, workers):
    job, _ = read(tmp_path, {"trainingInput": {"scaleTier": tier}})
    assert (job.machine_type, job.accelerator_type, job.workers) == (machine, accelerator, workers)


def test_gpu_machines_of_ml_engine_get_accelerators(tmp_path):
    old = {"scaleTier": "CUSTOM", "masterType": "standard_p100"}
    job, _ = read(tmp_path, {"trainingInput": old})
    assert (job.accelerator_type, job.accelerator_count) == ("NVIDIA_TESLA_P100", 1)


@pytest.mark.parametrize(
    ("old", "message"),
    [
        ({"scaleTier": "HUGE"}, "scaleTier 'HUGE' has no counterpart"),
        ({"scaleTier": "CUSTOM", "masterType": "cloud_tpu"}, "masterType 'cloud_tpu'"),
        ({"encryptionConfig": {}}, "encryptionConfig has no counterpart"),
        ({"scaleTier": "CUSTOM", "workerCount": "many"}, "workerCount is 'many'"),
        ({"scaleTier": "CUSTOM"}, "masterType '' has no counterpart"),
        ({"scaleTier": "CUSTOM", "masterType": 3}, "masterType '3' has no counterpart"),
        ({"scaleTier": ["CUSTOM"]}, "has no counterpart"),
        ({"scaleTier": "BASIC_GPU", "workerCount": 9}, "workerCount has no effect with scaleTier"),
        ({"masterType": "standard_gpu"}, "masterType has no effect with scaleTier BASIC"),
        ({"hyperparameters": {}}, "holds no params"),
        ({"hyperparameters": 3}, "hyperparameters is 3"),
    ],
)
def test_what_cannot_be_translated_is_named(tmp_path, old, message):
    with pytest.raises(ConfigError, match=message):
        read(tmp_path, {"trainingInput": old})


RATE = {"parameterName": "learning_rate", "type": "DOUBLE", "minValue": 0.001, "maxValue": 0.1}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"maxTrails": 3}, "unknown key 'maxTrails'. Did you mean maxTrials"),
        ({"maxTrials": "x"}, "hyperparameters.maxTrials is 'x', expected a number"),
        ({"hyperparameterMetricTag": None}, "hyperparameterMetricTag is missing"),
        ({"params": [3]}, "hyperparameters.params is 3"),
        ({"params": [RATE | {"minvalue": 1}]}, "unknown key 'minvalue'. Did you mean minValue"),
        ({"params": [RATE | {"minValue": None}]}, "learning_rate: minValue is None, expected a nu"),
        ({"params": [RATE | {"minValue": "x"}]}, "learning_rate: minValue is 'x'"),
        ({"params": [RATE | {"type": "INTEGER"}]}, "minValue is 0.001, expected a whole number"),
        ({"params": [RATE | {"type": "REAL"}]}, "type 'REAL' has no counterpart"),
        ({"params": [RATE | {"scaleType": "UNIT_REVERSE_LOG_SCALE"}]}, "UNIT_REVERSE_LOG_SCALE"),
        ({"params": [RATE | {"type": "DISCRETE"}]}, "choices is None, expected a list"),
    ],
)
def test_a_wrong_hyperparameter_of_an_old_file_is_named(tmp_path, changes, message):
    old = {"hyperparameterMetricTag": "accuracy", "params": [RATE]} | changes
    old = {key: value for key, value in old.items() if value is not None}
    with pytest.raises(ConfigError, match=message):
        read(tmp_path, {"trainingInput": {"hyperparameters": old}})


def test_the_hyperparameters_of_an_old_file_become_a_study(tmp_path):
    old = {
        "goal": "MAXIMIZE", "hyperparameterMetricTag": "accuracy", "maxTrials": 6,
        "maxParallelTrials": 3,
        "params": [
            {"parameterName": "learning_rate", "type": "DOUBLE", "minValue": 0.001,
             "maxValue": 0.1, "scaleType": "UNIT_LOG_SCALE"},
            {"parameterName": "batch_size", "type": "DISCRETE", "discreteValues": [32, 64]},
            {"parameterName": "optimizer", "type": "CATEGORICAL",
             "categoricalValues": ["adam", "sgd"]},
        ],
    }  # fmt: skip
    study = read(tmp_path, {"trainingInput": {"hyperparameters": old}})[0].study
    assert (study.goal, study.max_trials, study.parallel_trials) == ("maximize", 6, 3)
    assert [parameter.name for parameter in study.parameters] == [
        "learning_rate", "batch_size", "optimizer",
    ]  # fmt: skip
    assert study.parameters[0].is_log
