"""The documents: every YAML in them is a job, every flag in them exists."""

import pathlib
import re
import runpy

import pytest
import yaml

from tf_image_classification.cli import convert
from tf_image_classification.cli.main import VERBS, main
from tf_image_classification.cloud.job import make_job
from tf_image_classification.config import OPTIONS, foreign_flags, options_of
from tf_image_classification.config.search_space import parameters_of
from tf_image_classification.metrics.definitions import METRICS

DOCS = pathlib.Path(__file__).parent.parent / "docs"
PAGES = sorted(path.name for path in DOCS.glob("*.md"))


def blocks(page, language):
    return re.findall(rf"```{language}\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)


@pytest.mark.parametrize("number", range(3))
def test_every_job_in_the_cloud_page_can_be_read(number):
    found = blocks("cloud.md", "yaml")
    assert len(found) == 3
    assert make_job(yaml.safe_load(found[number]), "cloud.md").image


def test_the_space_in_the_page_on_tuning_can_be_searched():
    [text] = blocks("tune.md", "yaml")
    assert len(parameters_of(yaml.safe_load(text), "space.yml")) == 5


@pytest.mark.parametrize("page", PAGES)
def test_every_flag_that_a_page_names_exists(page, capsys):
    known = {*OPTIONS, *(f"no{name}" for name in OPTIONS), "config", "logdir", "spec"}
    known |= {alias for option in OPTIONS.values() for alias in option.aliases}
    known |= set(foreign_flags.GONE) if page == "migrate.md" else set()
    for verb in VERBS:
        assert main([verb, "--help"]) == 0
    of_the_first_version = {option.name for option in options_of("convert", convert._FirstVersion)}
    known |= of_the_first_version if page == "convert.md" else set()
    known |= set(re.findall(r"--(\w+)", capsys.readouterr().out))
    for benchmark in (DOCS.parent / "benchmarks").glob("*.py"):
        known |= set(re.findall(r'"--(\w+)"', benchmark.read_text()))
    text = (DOCS / page).read_text()
    ours = re.sub(
        r"^(?!.*(?:tfic |python)).*(?:docker|kubectl|srun|gcloud|pip) .*$", "", text, flags=re.M
    )
    named = set(re.findall(r"(?<![\w-])--([a-z]\w*)", ours)) - {"nodes", "ntasks"}
    assert named <= known


@pytest.mark.parametrize("page", [*PAGES, "../README.md"])
def test_every_link_to_a_page_leads_somewhere(page):
    path = DOCS / page
    text = re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", text):
        assert (path.parent / target).exists(), target


def test_the_table_of_metrics_is_up_to_date():
    script = runpy.run_path(str(DOCS.parent / "scripts" / "write_metric_table.py"))
    page = (DOCS / "evaluate.md").read_text(encoding="utf-8")
    assert script["with_table"](page) == page, "run make docs"
    assert all(script["row"](metric) in page for metric in METRICS)


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
