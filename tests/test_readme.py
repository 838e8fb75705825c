"""What the README says is true: its spec trains, its flag table is that of the settings."""

import pathlib
import re

import numpy as np
import pytest
from PIL import Image

from tf_image_classification import make_settings, train
from tf_image_classification.config import OPTIONS
from tf_image_classification.config.command_line import default_text
from tf_image_classification.estimator_specs import load_spec
from tf_image_classification.workflows.setup.spec_check import check_spec

ROOT = pathlib.Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture
def spec(tmp_path):
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
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


def test_the_spec_of_the_readme_keeps_the_contract(spec):
    assert check_spec(spec, make_settings({"image_size": 32})) == []


@pytest.mark.slow
def test_the_spec_of_the_readme_trains_on_a_folder_of_pictures(spec, pictures):
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
    table = README.partition("## The model folder")[2].partition("##")[0]
    in_table = set(re.findall(r"`(\w+)/`|`(\w+\.jsonl?)`", table))
    only_sometimes = {"bad_images.jsonl", "warm_start.json", "evaluations.jsonl", "held_out.json"}
    assert written == {folder or file for folder, file in in_table} - only_sometimes


def test_the_flag_table_has_the_defaults_of_the_settings():
    rows = re.findall(r"^\| (`.*?) \| (.*?) \| ", README.partition("## Flags")[2], re.MULTILINE)
    assert len(rows) > 10
    for names, default in rows:
        for name in re.findall(r"`(\w+)`", names):
            assert default_text(OPTIONS[name]) == default, name


def test_every_flag_that_the_readme_names_exists():
    commands = "\n".join(re.findall(r"```sh\n(.*?)```", README, re.DOTALL))
    switches = {f"no{name}" for name, option in OPTIONS.items() if option.kind is bool}
    own = {"config", "print_config", "spec", "mnist_dir", "logdir", "workers", "max_restarts"}
    own |= {"eval", "short_side", "output", "format"}  # of tfic inspect, convert, predict, export
    own |= {"train", "val", "help", "sort"}  # short forms; of tfic backbones
    named = set(re.findall(r"--(\w+)", commands + README.split("## Flags")[0]))
    assert named <= OPTIONS.keys() | switches | own
