"""What is published beside the package: addresses, workflows, containers, licences, version."""

import pathlib
import re
import runpy

import pytest
import yaml
from packaging.requirements import Requirement

import tf_image_classification

ROOT = pathlib.Path(__file__).parents[1]
PYPROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
REPOSITORY = re.search(r'^Repository = "(.+)"$', PYPROJECT, re.MULTILINE)[1]
OWNER = REPOSITORY.split("/")[-2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PUBLISHED = ["README.md", "CHANGELOG.md", "SECURITY.md", "CITATION.cff", "CODE_OF_CONDUCT.md"]
PUBLISHED += ["CONTRIBUTING.md", ".github/ISSUE_TEMPLATE/config.yml", "docs/conf.py"]


def script(name):
    return runpy.run_path(str(ROOT / "scripts" / name))


def test_the_tag_of_this_version_could_be_released():
    problems = script("check_release.py")["problems"]
    assert problems(f"v{tf_image_classification.__version__}") == []
    assert problems("v9.9.9") == [
        f"The tag is v9.9.9, the package's version {tf_image_classification.__version__}."
    ]


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_address_of_the_repository_is_that_of_the_package(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    for owner in re.findall(r"([\w-]+)(?:/|\.github\.io/)tf_image_classification[/)\"]", text):
        assert owner in (OWNER, "pypi", "v", "project", "src", "pyversions"), owner


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_address_in_the_repository_or_the_site_has_a_file(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    pages = re.findall(r"\.github\.io/tf_image_classification/([\w/.-]+)\.html", text)
    files = re.findall(rf"{OWNER}/tf_image_classification/(?:blob/|tree/)?main/([\w/.-]+)", text)
    for path in [*(f"docs/{page}.md" for page in pages), *files]:
        assert (ROOT / path).exists(), path
    if name == "README.md":
        assert len(pages) > 8 and len(files) > 2


def test_the_page_of_licences_names_every_dependency():
    page = (ROOT / "docs" / "reference" / "licenses.md").read_text(encoding="utf-8")
    names = re.findall(r"^\| ([\w.-]+) \| (.+?) \|", page, re.MULTILINE)
    assert all(text and text.lower() != "unknown" for _, text in names)
    assert script("write_license_table.py")["direct"]().keys() <= {name for name, _ in names}


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_runs_what_exists_with_few_permissions(path):
    workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert workflow["permissions"] == {"contents": "read"}
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8").replace("$(VENV)", ".venv")
    targets = set(re.findall(r"^([\w./-]+):", makefile, re.MULTILINE))
    jobs = workflow["jobs"].values()
    lines = [step.get("run", "") for job in jobs for step in job.get("steps", ())]
    lines += [
        line for job in jobs for line in job.get("strategy", {}).get("matrix", {}).get("tests", ())
    ]
    for line in lines:
        for command in re.findall(r"^make ([\w./ -]+)", line):
            assert set(command.split()) <= targets
        for name in re.findall(r"\b((?:scripts|tests)/[\w/.]+)", line):
            assert (ROOT / name).exists(), name


def test_every_folder_of_tests_runs_at_night():
    workflow = yaml.safe_load((ROOT / ".github/workflows/nightly.yml").read_text(encoding="utf-8"))
    *parts, rest = workflow["jobs"]["everything"]["strategy"]["matrix"]["tests"]
    assert set(re.findall(r"--ignore (\S+)", rest)) == {
        name for part in parts for name in part.split()
    }


@pytest.mark.parametrize(
    "path", sorted((ROOT / "docker").glob("*/Dockerfile")), ids=lambda p: p.parent.name
)
def test_a_container_copies_and_installs_what_exists(path):
    text = path.read_text(encoding="utf-8")
    for line in re.findall(r"^COPY (.+) \S+$", text, re.MULTILINE):
        assert all((ROOT / name).exists() for name in line.split())
    default = dict(re.findall(r"^ARG (\w+)=(\w+)$", text, re.MULTILINE))
    [package] = re.findall(r"/package(\[.+?\])", text)
    for name, value in default.items():
        package = package.replace(f"${{{name}}}", value)
    for extra in Requirement(f"package{package}").extras:
        assert re.search(rf"^{extra} = \[", PYPROJECT, re.MULTILINE)
    assert re.search(r"^USER \d+$", text, re.MULTILINE)


def test_the_kubernetes_example_asks_at_addresses_that_the_server_has():
    text = (ROOT / "docker" / "serve" / "kubernetes.yaml").read_text(encoding="utf-8")
    deployment, service = yaml.safe_load_all(text)
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    sources = (ROOT / "src" / "tf_image_classification" / "serving").rglob("*.py")
    served = "".join(path.read_text(encoding="utf-8") for path in sources)
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert f'"{container[probe]["httpGet"]["path"]}"' in served
    [port] = container["ports"]
    assert service["spec"]["ports"][0]["targetPort"] == port["name"]
    assert f"EXPOSE {port['containerPort']}" in (ROOT / "docker/serve/Dockerfile").read_text()
