"""The README, and the complete spec of the page on own models, which trains."""

import importlib
import pathlib
import re
import shlex

import keras
import numpy as np
import pytest
from PIL import Image

from tf_image_classification import make_settings, train
from tf_image_classification.estimator_specs import load_spec
from tf_image_classification.workflows.setup.spec_check import check_spec

ROOT = pathlib.Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture
def spec(tmp_path):
    page = (ROOT / "docs" / "topics" / "own_model.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    [block] = [block for block in blocks if "class PetsSpec" in block]
    assert len(block.splitlines()) <= 60
    path = tmp_path / "pets.py"
    path.write_text(block, encoding="utf-8")
    return load_spec(f"{path}:PetsSpec")


@pytest.fixture
def pictures(tmp_path):
    random = np.random.default_rng(0)
    for part in ("train", "eval"):
        for name, level in (("cat", 60), ("dog", 190)):
            folder = tmp_path / part / name
            folder.mkdir(parents=True)
            for i in range(6):
                pixels = random.normal(level, 20, (40, 50 + i, 3)).clip(0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{i}.jpg")
    return tmp_path


def test_the_spec_of_the_page_keeps_the_contract(spec):
    assert check_spec(spec, make_settings({"image_size": 32})) == []


@pytest.mark.slow
def test_the_spec_of_the_page_trains_on_a_folder_of_pictures(spec, pictures):
    settings = make_settings(
        {
            "train_metadata": [str(pictures / "train")],
            "eval_metadata": [str(pictures / "eval")],
            "model_dir": str(pictures / "model"),
            "cache_dir": str(pictures / "cache"),
            "image_size": 32,
            "batch_size": 4,
            "train_steps": 12,
            "learning_rate": 0.01,
            "progress": False,
        }
    )
    result = train(spec, settings)
    assert result.step == 12
    assert set(result.metrics) == {"loss", "accuracy", "auc"}
    written = {path.name for path in (pictures / "model").glob("[!.]*")}
    page = (ROOT / "docs" / "reference" / "model-folder.md").read_text(encoding="utf-8")
    described = {name.partition("/")[0] for name in re.findall(r"`([\w.]+/?)", page)}
    assert written <= described


def test_the_readme_is_short_and_begins_with_the_set_up_of_a_clone():
    lines = README.splitlines()
    assert len(lines) < 120
    first_screen = "\n".join(lines[:30])
    assert "make demo" in first_screen and "make test" in first_screen


def test_every_command_of_the_readme_can_be_typed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pets").mkdir()
    lines = "\n".join(re.findall(r"```sh\n(.*?)```", README, re.DOTALL)).splitlines()
    commands = [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("tfic ")]
    assert {words[0] for words in commands} >= {"train", "serve", "report", "predict", "export"}
    for verb, *words in commands:
        module = importlib.import_module(f"tf_image_classification.cli.{verb.replace('-', '_')}")
        assert module.main.parse(words) is not None


def test_the_outline_of_a_spec_in_the_readme_is_complete():
    [block] = [b for b in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "PetsSpec" in b]
    names = {"my_network": small_network}
    exec(block.replace("train_estimator.train(PetsSpec())", ""), names)
    assert check_spec(names["PetsSpec"](), make_settings({"image_size": 32})) == []


def small_network(image_shape, num_classes):
    inputs = keras.Input(image_shape)
    pooled = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3)(inputs))
    return keras.Model(inputs, keras.layers.Dense(num_classes)(pooled))
