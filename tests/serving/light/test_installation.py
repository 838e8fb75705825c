"""The wheel with the extra ``serve`` in an environment of its own."""

import os
import pathlib
import subprocess
import sys

import light_run
import pytest

MAX_MEGABYTES = 250
UNWANTED = {"tensorflow", "keras", "pyarrow", "sklearn", "scipy", "matplotlib", "tensorboard"}


def run(*command, **options):
    return subprocess.run(command, capture_output=True, text=True, **options)


@pytest.mark.slow
@pytest.mark.as_installed
def test_the_extra_serve_installs_a_small_environment_that_predicts(tmp_path):
    root = pathlib.Path(__file__).parents[3]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    assert run(sys.executable, "-m", "venv", tmp_path / "env").returncode == 0
    python = tmp_path / "env" / "bin" / "python"
    installed = run(python, "-m", "pip", "install", f"{root}[serve]", env=environment)
    if installed.returncode and "No matching distribution" in installed.stderr:
        pytest.skip(f"no package index can be reached: {installed.stderr.splitlines()[-1]}")
    assert installed.returncode == 0, installed.stderr
    [packages] = (tmp_path / "env" / "lib").glob("python*/site-packages")
    assert not UNWANTED & {path.name for path in packages.iterdir()}
    sizes = {
        path.name: sum(f.stat().st_size for f in (path, *path.rglob("*")) if f.is_file())
        for path in packages.iterdir()
        if path.name != "pip"
    }
    assert sum(sizes.values()) < MAX_MEGABYTES * 1e6, sizes
    folder = light_run.make(tmp_path / "model")
    encoded = light_run.pictures()
    light_run.write_light_file(folder, encoded)
    (tmp_path / "x.jpg").write_bytes(encoded[0])
    tfic = tmp_path / "env" / "bin" / "tfic"
    found = run(tfic, "predict", folder.path, tmp_path / "x.jpg", env=environment)
    assert found.returncode == 0 and "engine litert" in found.stderr, found.stderr
    helped = run(tfic, "serve", "--help", env=environment)
    assert helped.returncode == 0 and "--engine" in helped.stdout
