"""The documentation site: its menu, links, generated parts, and the build itself."""

import ast
import functools
import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import pytest

from browser import open_page
from tf_image_classification import errors
from tf_image_classification.cli.main import VERBS
from tf_image_classification.config import OPTIONS
from tf_image_classification.config.groups import FILE_OPTIONS
from tf_image_classification.metrics.definitions import METRICS
from tf_image_classification.model_folder import ModelFolder

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PACKAGE = ROOT / "src" / "tf_image_classification"
PAGES = sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))
REFERENCE = {path.stem: path.read_text(encoding="utf-8") for path in DOCS.glob("reference/*.md")}

sys.path.insert(0, str(DOCS / "_ext"))

import reference  # noqa: E402
import search_words  # noqa: E402
from reference import api, commands, error_pages  # noqa: E402
from site_build import first_sentence  # noqa: E402


@functools.cache
def text_of(page):
    """A page as the site has it, without code."""
    text = reference.with_parts((DOCS / page).read_text(encoding="utf-8"))
    return re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)


def slugs(text):
    """The anchors of a page's headings, as GitHub and MyST make them."""
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    plain = [re.sub(r"\[([^]]*)\]\([^)]*\)|`", r"\1", title) for title in titles]
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in plain}


# --- menu and links ----------------------------------------------------------------------------


def test_every_page_is_in_the_menu_exactly_once():
    listed = ["index.md"]
    for page in PAGES:
        for block in re.findall(r"```\{toctree\}\n(.*?)```", (DOCS / page).read_text(), re.DOTALL):
            lines = [line for line in block.split("\n") if line and not line.startswith(":")]
            names = [re.sub(r".* <(.*)>", r"\1", line) for line in lines]  # with a title
            listed += [os.path.normpath(Path(page).parent / f"{name}.md") for name in names]
    assert sorted(listed) == PAGES


@pytest.mark.parametrize("page", [*PAGES, "../README.md", "../CONTRIBUTING.md"])
def test_every_link_leads_to_a_file_and_a_heading_that_exist(page):
    path = DOCS / page
    links = re.findall(r"\]\((?!\w+:)([^)#\s]*)(?:#([^)\s]+))?\)", text_of(page))
    for target, anchor in links:
        file = path.parent / target if target else path
        assert file.exists(), target
        if anchor:
            assert anchor in slugs(text_of(os.path.relpath(file, DOCS))), f"{target}#{anchor}"


def test_every_page_that_the_code_names_exists():
    named = {
        (name, path.name)
        for folder in ("src", "scripts", "tests", "examples", "benchmarks")
        for path in (ROOT / folder).rglob("*.py")
        for name in re.findall(r"\bdocs/[\w/-]+\.md", path.read_text(encoding="utf-8"))
    }
    assert len(named) > 2
    assert [found for found in named if not (ROOT / found[0]).exists()] == []


@pytest.mark.parametrize("page", PAGES)
def test_a_page_begins_with_its_title_and_a_sentence(page):
    text = (DOCS / page).read_text(encoding="utf-8")
    assert re.match(r"# \S.*\n\n[^\s`#|<!-]", text) or re.match(r"# \S.*\n\n`\w", text)
    assert text.endswith("\n") and not text.endswith("\n\n")


# --- generated parts ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", REFERENCE)
def test_the_generated_tables_in_the_repository_are_those_of_the_code(name):
    text = REFERENCE[name]
    assert reference.with_parts(text, reference.STORED) == text, "run make docs"


def test_every_generated_part_has_its_place():
    used = re.findall(r"<!-- generated: ([\w-]+) -->", "".join(REFERENCE.values()))
    assert sorted(used) == sorted(reference.PARTS)
    assert set(reference.STORED) < set(reference.PARTS)


def test_a_part_that_does_not_exist_is_an_error():
    with pytest.raises(KeyError, match="optoins.*Known: api"):
        reference.with_parts("<!-- generated: optoins -->\n<!-- end -->")


def test_every_option_is_in_the_table_of_its_group():
    text = REFERENCE["options"]
    for option in (*OPTIONS.values(), *FILE_OPTIONS.values()):
        [row] = re.findall(rf"^\| `{option.name}`.*$", text, re.MULTILINE)
        assert option.help.replace("|", r"\|") in row
        assert option.expected in row
        heading = option.group.replace("_", " ").capitalize()
        assert text.index(f"## {heading}\n") < text.index(row)


def test_every_verb_is_described_with_its_whole_help():
    page = commands.command_pages()
    assert re.findall(r"^## tfic (.*)$", page, re.MULTILINE) == list(VERBS)
    for name in VERBS:
        verb = commands.load_verb(name)
        assert verb.name == name
        assert all(
            f"--{option}" in verb.help() for option in verb.all_options() if option != "command"
        )
    lines = page.splitlines()
    assert max(len(line) for line in lines if not line.startswith("example:")) <= 80


def test_every_metric_is_in_the_table():
    for metric in METRICS:
        assert metric.summary in REFERENCE["metrics"]
        assert f"| `{metric.name}`" in REFERENCE["metrics"]


def test_every_public_name_is_on_the_page_of_the_python_api():
    page = api.api_page()
    for module in api.MODULES:
        for name in api.public_names(module):
            assert re.search(
                rf"^\.\. auto(class|exception|function):: {name}$", page, re.MULTILINE
            ), name


def test_every_error_class_has_a_cause_and_a_cure():
    rows = [line.split(" | ") for line in error_pages.error_classes().splitlines()[2:]]
    found = {row[0].strip("| `"): row for row in rows}
    ours = {
        n: c
        for n, c in vars(errors).items()
        if isinstance(c, type) and c.__module__ == errors.__name__
    }
    assert found.keys() == ours.keys()
    for name, row in found.items():
        assert int(row[2].strip("`")) == ours[name].exit_code
        assert len(row[3]) > 20 and len(row[4]) > 20


def test_an_error_class_without_a_cure_is_found(monkeypatch):
    monkeypatch.setattr(errors.DataError, "__doc__", "A source cannot be used.")
    with pytest.raises(ValueError, match="DataError names no cure"):
        error_pages.error_classes()


def test_every_module_that_raises_an_error_has_a_topic_and_its_messages():
    found = error_pages.messages()
    assert len(found) > 500
    page = error_pages.error_messages()
    for message in found:
        assert error_pages.topic_of(message.module) in error_pages.TOPICS
        assert f"({message.module})" in page
    assert page.count("\n- ") == len(found)


def test_the_parts_of_the_package_that_the_topics_name_exist():
    for part in (part for parts in error_pages.TOPICS.values() for part in parts):
        assert (PACKAGE / part).is_dir() or (PACKAGE / f"{part}.py").is_file(), part
    for name in error_pages._PART_OF_WORKFLOW:
        assert (PACKAGE / "workflows" / f"{name}.py").is_file(), name


@pytest.mark.parametrize(
    ("code", "wanted"),
    [
        ("'no such file'", "no such file"),
        (
            "f'{path!r} has {len(rows)} rows. ' + advice",
            "<path> has <number of rows> rows. <advice>",
        ),
        ("f'{counted(n, \"image\")}: {brief(error)}'", "<number> images: <reason>"),
        ('f\'{counted(n, "class is", "classes are")} new\'', "<number> classes are new"),
        ("f'no {name}.{nearest(name, known)}'", "no <name>. Did you mean <known name>?"),
        ("f'one of {\", \".join(sorted(names))}'", "one of <names>"),
        ("f'{a.b.name} is {option.default}'", "<b> is <default>"),
        ("'x ' + ('one.' if n else 'two.')", "x [one. | two.]"),
        ("f'see {HELP}'", "see the help"),
    ],
)
def test_a_message_is_read_from_the_source(code, wanted):
    known = {"HELP": ast.Constant("the help")}
    assert error_pages.template(ast.parse(code, mode="eval").body, known) == wanted


# --- what the code reads and writes ------------------------------------------------------------


@functools.cache
def trees():
    paths = sorted(PACKAGE.rglob("*.py"))
    return [(path, path.read_text("utf-8"), ast.parse(path.read_text("utf-8"))) for path in paths]


def environment_names():
    """Names of variables in the modules that read the environment."""
    names = set()
    for path, text, tree in trees():
        if "environ" not in text or path.parent.name == "cloud":
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                names |= (
                    {node.value} if re.fullmatch(r"[A-Z]+\d?(_[A-Z0-9]+)+", node.value) else set()
                )
            read = isinstance(node, ast.Call) and getattr(node.func, "attr", "") in (
                "get",
                "getenv",
            )
            if read and ast.unparse(node.func).endswith(
                ("environ.get", "environment.get", "getenv")
            ):
                names |= {arg.value for arg in node.args[:1] if isinstance(arg, ast.Constant)}
    return names


def test_every_environment_variable_is_described_and_no_other():
    described = set(re.findall(r"`([A-Z]+\d?(?:_[A-Z0-9]+)*)`", REFERENCE["environment"]))
    read = environment_names()
    assert len(read) > 20
    assert read - described == set()
    source = "\n".join(text for _, text, _ in trees())
    assert {name for name in described - read if not re.search(rf"\b{name}\b", source)} == set()


def names_in_the_model_folder():
    folder = ModelFolder("m")
    values = [getattr(folder, n) for n, p in vars(ModelFolder).items() if isinstance(p, property)]
    names = {value.removeprefix("m/") for value in values if isinstance(value, str)}
    for _, _, tree in trees():
        for node in ast.walk(tree):
            joins = isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "join"
            if joins and len(node.args) > 1 and isinstance(node.args[1], ast.Constant):
                first = ast.unparse(node.args[0])
                if first in ("folder.path", "self.path", "beside"):
                    names.add(node.args[1].value)
    return names


def test_every_path_of_a_model_folder_is_described_and_no_other():
    page = REFERENCE["model-folder"]
    rows = re.findall(r"^\| (.*?) \|", page.partition("## Files")[2], re.MULTILINE)
    described = {name.rstrip("/") for row in rows for name in re.findall(r"`([^`]+)`", row)}
    named = names_in_the_model_folder()
    assert len(named) > 15
    assert named - described == set()
    source = "\n".join(text for _, text, _ in trees())
    for name in described - named:
        own = re.sub(r"-\d+$", "-{", Path(name).name)  # fold-1 is made of a number
        assert f'"{own}' in source or f"{own}/" in source, name


# --- the build ---------------------------------------------------------------------------------


def test_the_first_sentence_of_a_page_is_its_line_in_the_index():
    from docutils import nodes
    from docutils.utils import new_document

    page = new_document("page")
    page += nodes.title("", "Data sets")
    assert first_sentence(page) == ""
    page += nodes.paragraph("", "Files, e.g. a CSV, and\nfolders. `More` follows.")
    assert first_sentence(page) == "Files, e.g. a CSV, and folders."


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the built site, and the process that built it."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-b", "html", "-W", "--keep-going", "-n", "-q"]
    built = subprocess.run([*command, DOCS, folder], capture_output=True, text=True, cwd=ROOT)
    return folder, built


QUESTIONS = {
    # a person with a folder of pictures
    "few pictures": "guides/few_pictures",
    "wrong labels": "guides/wrong_labels",
    "broken file": "guides/broken_files",
    "none of my classes": "guides/unknown_pictures",
    "install": "start/install",
    # an engineer who knows other programs
    "timm": "coming_from/timm",
    "mixup": "topics/finetune",
    "own model": "topics/own_model",
    "resume after a kill": "topics/stopping",
    "confidence interval": "explanations/intervals",
    # an operator
    "Slurm": "topics/cluster",
    "Vertex AI": "topics/cloud",
    "exit status 75": "reference/errors",
    "Prometheus": "topics/serve",
    "Dockerfile": "topics/serve",
    # a developer of an app
    "TFLite": "topics/export",
    "int8": "topics/export",
    "MediaPipe": "topics/export",
    "phone": "guides/phone_answers_differently",
    "browser": "topics/export",
    # an auditor
    "AI Act": "guides/eu_ai_act",
    "privacy": "guides/privacy",
    "licence": "reference/licenses",
    "reproducible seed": "explanations/exact-runs",
    "leakage": "guides/leaks_and_groups",
}
"""What five readers type into the search, and the page that answers."""


@pytest.mark.slow
def test_the_search_answers_readers_in_one_try(site):
    address = f"{(site[0] / 'search.html').as_uri()}?q="
    with open_page(f"{address}x") as (page, _):  # it complains that excerpts need a server
        for question, wanted in QUESTIONS.items():
            page.goto(address + quote(question))
            page.wait_for_selector("#search-results ul.search > li > a")
            links = page.locator("#search-results ul.search > li > a").all()[:2]
            found = [re.sub(r"\.html.*", "", link.get_attribute("href")) for link in links]
            assert wanted in found, (question, found)


def test_search_words_are_of_pages_that_exist():
    assert {f"{name}.md" for name in search_words.WORDS} <= set(PAGES)


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(site):
    tmp_path, result = site
    assert result.returncode == 0, result.stderr
    for page in PAGES:
        html = (tmp_path / page).with_suffix(".html").read_text(encoding="utf-8")
        assert "<h1>" in html
    index = (tmp_path / "llms.txt").read_text(encoding="utf-8")
    linked = re.findall(r"\]\((\S+?)\)", index)
    assert sorted(linked) == sorted(p.replace(".md", ".html") for p in PAGES if p != "index.md")
    assert all((tmp_path / name).is_file() for name in linked)
    gallery = (tmp_path / "gallery" / "index.html").read_text(encoding="utf-8")
    pages = re.findall(r'href="\.\./(_downloads/[^"]+\.html)"', gallery)
    assert len(pages) == 4 and all((tmp_path / name).is_file() for name in pages)
    assert "download=" not in gallery
    for page, words in {
        "reference/commands": ["--max_queue", "find-learning-rate"],
        "reference/environment": ['id="envvar-TF_CONFIG"'],
        "reference/messages": ["can be decoded", "Did you mean"],
        "reference/options": [f'id="confval-{name}"' for name in OPTIONS],
        "reference/python-api": [
            "tf_image_classification.Classifier",
            "load_model",
            "UnfreezeHook",
        ],
    }.items():
        html = (tmp_path / f"{page}.html").read_text(encoding="utf-8")
        html = re.sub("</?span[^>]*>", "", html)  # around each word of code
        assert [word for word in words if word not in html] == [], page
