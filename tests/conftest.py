"""Strict surroundings for every test: two CPU devices, deterministic operations, fixed seeds."""

import collections
import os
import shutil
import signal

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as where the package imports TensorFlow
os.environ.setdefault("MPLBACKEND", "agg")

import filelock
import hypothesis
import pytest

# Programs that tests start inherit these; a shell's background job and nohup leave them ignored.
for number, handler in (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGHUP, signal.SIG_DFL),
):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, handler)

# The same examples every time; HYPOTHESIS_PROFILE=default looks for new ones.
hypothesis.settings.register_profile(
    "repeatable", derandomize=True, max_examples=100 if os.environ.get("TFIC_ALL_TESTS") else 10
)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))


def pytest_configure(config):
    """Not in the process that only hands the tests to the workers of xdist: that saves seconds."""
    if hasattr(config, "workerinput") or not config.getoption("numprocesses", None):
        prepare_tensorflow()


def prepare_tensorflow():
    """Two CPU devices and deterministic operations.

    Not in a fixture: a test module may make a tensor while it is collected, and afterwards the
    devices cannot be changed any more.
    """
    import tensorflow as tf

    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
    )
    tf.config.experimental.enable_op_determinism()


_LONGEST = (
    *("test_several_workers", "test_kill_and_resume", "test_train_estimator", "test_contract"),
    *("test_backbone_spec", "test_bucket", "test_decode", "test_formats", "test_stops_and_faults"),
    *("test_engine", "test_every_number", "test_label_kinds", "test_tune"),
)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    """Choose the tests of ``make test``, ``make test-slow`` or all; the longest modules first."""
    items.sort(key=lambda item: item.path.stem not in _LONGEST)  # started last, they end alone
    _mark_cases(items)
    if os.environ.get("TFIC_ALL_TESTS"):
        return
    skip = pytest.mark.skip(reason="it takes long; TFIC_ALL_TESTS=1 (make test-all) runs it")
    for item in items:
        if item.get_closest_marker("exhaustive"):
            item.add_marker(skip)
    if config.option.markexpr or any("::" in argument for argument in config.args):
        return  # the command line chooses
    slow = [item for item in items if item.get_closest_marker("slow")]
    items[:] = [item for item in items if not item.get_closest_marker("slow")]
    config.hook.pytest_deselected(items=slow)


def _mark_cases(items):
    """Mark as slow or exhaustive the cases of a test that come after the ones it wants earlier."""
    seen = collections.Counter()
    for item in items:
        for mark in ("slow", "exhaustive"):
            if marker := item.get_closest_marker(f"{mark}_after"):
                test = (item.nodeid.partition("[")[0], mark)
                seen[test] += 1
                if seen[test] > marker.args[0]:
                    item.add_marker(getattr(pytest.mark, mark))


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch, tmp_path_factory):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))
    for name in list(os.environ):
        if name == "TF_CONFIG" or name.startswith("GOOGLE_"):
            monkeypatch.delenv(name)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item, nextitem):
    """Whether TensorFlow optimizes graphs, from the first fixture of a test to the last.

    That takes as long as all else that these short runs do. Tests as_installed have it, most
    processes that tests start, and make test-all.
    """
    import tensorflow as tf

    is_on = os.environ.get("TFIC_ALL_TESTS") or item.get_closest_marker("as_installed")
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": not is_on})
    return (yield)


@pytest.fixture(autouse=True)
def few_draws(request, monkeypatch):
    """Intervals of evaluations that other tests look at for something else are made roughly."""
    if request.node.get_closest_marker("as_installed"):
        return
    monkeypatch.setattr("tf_image_classification.evaluation.measures._NUM_RESAMPLES", 20)


@pytest.fixture(autouse=True)
def no_light_files(request, monkeypatch):
    """Trainings end without a file for prediction without TensorFlow: to convert takes seconds."""
    if not request.node.get_closest_marker("as_installed"):
        monkeypatch.setattr("tf_image_classification.serving.light.files.CONVERTERS", {})


@pytest.fixture(autouse=True)
def no_detectors(request, monkeypatch):
    """Trainings and evaluations end without the limit for unknown pictures, which takes seconds."""
    if not request.node.get_closest_marker("as_installed"):
        name = "tf_image_classification.workflows.unknown.fit_detector"
        monkeypatch.setattr(name, lambda *given, **named: "")


_MATTER = (
    *("image_size", "precision", "deterministic", "seed", "export_saved_model", "jit_compile"),
    *("max_image_pixels", "png16_range", "test_time_augmentation"),
)
"""Settings that the check of a spec, or the export that is tried first, depends on."""
_found_right = {}


def _kind_of(spec):
    """The class of a spec, or the one that it only gives another name."""
    kind = type(spec)
    while all(name.startswith("_") and name != "__init__" for name in vars(kind)):
        kind = kind.__base__
    return kind


@pytest.fixture(autouse=True)
def checked_once(request, monkeypatch):
    """The specs of many runs are checked, and tried to export, once for each of their forms.

    Both take as long as the rest of a short training. A form that is not right is checked each
    time, and so are the specs that tests make themselves.
    """
    if request.node.get_closest_marker("as_installed"):
        return
    import keras

    from serving.shipped_run import TinyMaps
    from tf_image_classification.backbone_spec import BackboneSpec
    from tf_image_classification.workflows import export_saved_model
    from tf_image_classification.workflows.setup import validate
    from tiny_runs import TinySpec

    def once(check):
        def checked(spec, settings, *more):
            kind = _kind_of(spec)
            if kind not in (TinySpec, TinyMaps, BackboneSpec):
                return check(spec, settings, *more)
            values = settings.values()
            policy = keras.config.dtype_policy().name, keras.config.image_data_format()
            form = (check.__name__, kind, *policy, *(values[name] for name in _MATTER))
            form = (*form, repr(vars(spec)))
            if form not in _found_right:
                _found_right[form] = check(spec, settings, *more)
            return _found_right[form]

        return checked

    monkeypatch.setattr(validate, "require_spec", once(validate.require_spec))
    monkeypatch.setattr(export_saved_model, "try_export", once(export_saved_model.try_export))


@pytest.fixture(autouse=True)
def fixed_seeds():
    import keras

    keras.utils.set_random_seed(0)


@pytest.fixture(scope="session")
def shipped_folder(tmp_path_factory):
    """A trained and exported run, to be copied; the first process of the tests makes it for all."""
    from serving import shipped_run as making

    own = tmp_path_factory.getbasetemp()
    made = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "shipped"
    with filelock.FileLock(f"{made}.lock"):
        if not (made / "complete").exists():
            made.mkdir()
            making.make(made)
            (made / "complete").touch()
    return made


@pytest.fixture(scope="session")
def shipped_run(shipped_folder, tmp_path_factory):
    """A copy of it, which tests of exports and of serving share."""
    from serving import shipped_run as making

    return making.find(shutil.copytree(shipped_folder, tmp_path_factory.mktemp("shipped") / "run"))


@pytest.fixture
def pictures(tmp_path):
    """A folder of twenty PNGs in two classes."""
    from dataset.tiny_sources import png

    folder = tmp_path / "pictures"
    for number, name in enumerate(("bee", "ant")):
        (folder / name).mkdir(parents=True)
        for i in range(10):
            (folder / name / f"{i}.png").write_bytes(png(100 * number + i))
    return folder
