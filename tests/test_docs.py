"""The documents: every YAML in them is a job, every flag in them exists."""

import pathlib
import re

import pytest
import yaml

from tf_image_classification.cli import convert
from tf_image_classification.cli.main import VERBS, main
from tf_image_classification.cloud.job import make_job
from tf_image_classification.config import OPTIONS, foreign_flags, options_of
from tf_image_classification.config.groups import FILE_OPTIONS
from tf_image_classification.config.search_space import parameters_of

DOCS = pathlib.Path(__file__).parent.parent / "docs"
PAGES = sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))


def blocks(page, language):
    return re.findall(rf"```{language}\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)


@pytest.mark.parametrize("number", range(3))
def test_every_job_in_the_cloud_page_can_be_read(number):
    found = blocks("topics/cloud.md", "yaml")
    assert len(found) == 3
    assert make_job(yaml.safe_load(found[number]), "cloud.md").image


def test_the_space_in_the_page_on_tuning_can_be_searched():
    [text] = blocks("topics/tune.md", "yaml")
    assert len(parameters_of(yaml.safe_load(text), "space.yml")) == 5


# The other pages of this folder name the flags of other programs.
OURS = [page for page in PAGES if not re.match(r"coming_from/(?!index|migrate)", page)]


@pytest.mark.parametrize("page", OURS)
def test_every_flag_that_a_page_names_exists(page, capsys):
    switches = {f"{no}{name}" for name in OPTIONS for no in ("no", "no_")}
    known = {*OPTIONS, *FILE_OPTIONS, *switches, "help", "logdir", "spec", "version"}
    known |= {"mnist_dir"} if page == "start/examples.md" else set()
    known |= {alias for option in OPTIONS.values() for alias in option.aliases}
    known |= set(foreign_flags.GONE) if page == "coming_from/migrate.md" else set()
    for verb in VERBS:
        assert main([verb, "--help-all"]) == 0
    of_the_first_version = {option.name for option in options_of("convert", convert._FirstVersion)}
    known |= of_the_first_version if page == "topics/convert.md" else set()
    known |= set(re.findall(r"--(\w+)", capsys.readouterr().out))
    for benchmark in (DOCS.parent / "benchmarks").glob("*.py"):
        known |= set(re.findall(r'"--(\w+)"', benchmark.read_text()))
    text = (DOCS / page).read_text()
    ours = re.sub(
        r"^(?!.*(?:tfic |python)).*(?:docker|kubectl|srun|gcloud|pip) .*$", "", text, flags=re.M
    )
    named = set(re.findall(r"(?<![\w-])--([a-z]\w*)", ours)) - {"nodes", "ntasks"}
    assert named <= known


def test_every_module_that_the_architecture_names_exists():
    text = (DOCS / "architecture.md").read_text()
    root = DOCS.parent
    package = root / "src" / "tf_image_classification"
    named = set(re.findall(r"`([a-z_]+(?:/[a-z0-9_.]+)+)/?`", text))
    named = {name for name in named if "..." not in name} - {"model/conv/kernel"}  # variables
    assert len(named) > 50
    missing = [
        name
        for name in sorted(named)
        if not any(
            place.exists()
            for base in (root, package)
            for place in (base / name, base / f"{name}.py", (base / name).with_suffix(""))
        )
    ]
    members = [
        n for n in missing if not (package / n.rpartition(".")[0]).with_suffix(".py").exists()
    ]
    assert members == []
