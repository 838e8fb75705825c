"""The guides: their commands can be typed, and their links lead somewhere."""

import importlib
import pathlib
import re
import shlex
import subprocess
import sys

import pytest

from tf_image_classification.cli.main import VERBS
from tf_image_classification.config import OPTIONS

DOCS = pathlib.Path(__file__).parent.parent / "docs"
FOLDERS = ("start", "guides", "coming_from")
PAGES = sorted(str(p.relative_to(DOCS)) for folder in FOLDERS for p in (DOCS / folder).glob("*.md"))
TUTORIAL = DOCS / "start" / "tutorial.md"


def verb_of(name):
    return importlib.import_module(f"tf_image_classification.cli.{name.replace('-', '_')}").main


def commands(page):
    """The lines ``tfic VERB ...`` of a page's shell blocks, and those in its sentences."""
    text = (DOCS / page).read_text(encoding="utf-8")
    blocks = "\n".join(re.findall(r"```sh\n(.*?)```", text, re.DOTALL)).replace("\\\n", " ")
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    inline = re.findall(r"`(tfic [^`]+)`", prose)
    is_command = re.compile(rf"tfic ({'|'.join(VERBS)}) ").match
    return [*filter(is_command, blocks.splitlines())], [*filter(is_command, inline)]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with the sources and settings that the pages name."""
    for name in ("cloud.yml", "kubernetes.yml"):
        (tmp_path / name).write_text("epochs: 3\n", encoding="utf-8")
    for folder in ("models/pets", "pets", "rare", "path", "flower_photos"):
        (tmp_path / folder).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_a_guide_can_be_typed(page, here):
    blocks, inline = commands(page)
    for line in blocks:
        words = shlex.split(line, comments=True)
        assert verb_of(words[1]).parse(words[2:]) is not None, line
    for line in inline:
        verb, own = verb_of(line.split()[1]), line.partition(" -- ")[0]
        flags = set(re.findall(r"(?<![\w-])--([a-z]\w*)", own))
        known = {
            name
            for option in verb.all_options().values()
            for name in (option.name, *option.aliases)
        }
        assert flags <= known, line


@pytest.mark.parametrize("page", [p for p in PAGES if re.match("guides/(?!index)", p)])
def test_every_option_that_a_guide_names_exists(page):
    text = re.sub(
        r"^.*(?:srun|docker|tensorboard|npm|benchmarks/).*$",
        "",
        (DOCS / page).read_text(),
        flags=re.M,
    )
    known = {f"no{name}" for name in OPTIONS} | {"config"}
    for name in VERBS:
        if name != "completion":
            for option in verb_of(name).all_options().values():
                known |= {option.name, *option.aliases}
    assert set(re.findall(r"(?<![\w-])--([a-z]\w*)", text)) <= known


@pytest.mark.parametrize("page", PAGES)
def test_every_link_and_anchor_of_a_guide_leads_somewhere(page):
    path = DOCS / page
    prose = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target, anchor in re.findall(r"\]\((?!http)([^)#]*)(#[^)]+)?\)", prose):
        linked = path.parent / target if target else path
        assert linked.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", linked.read_text(encoding="utf-8"), re.M)
            slugs = {re.sub(r"[^\w\- ]", "", h).lower().replace(" ", "-") for h in headings}
            assert anchor[1:] in slugs, f"{target}{anchor}"


@pytest.mark.parametrize("page", [p for p in PAGES if re.match("guides/(?!index)", p)])
def test_every_guide_has_the_same_parts(page):
    headings = re.findall(r"^## (.+)$", (DOCS / page).read_text(encoding="utf-8"), re.M)
    assert headings[0].startswith("What to run")
    assert headings[1].startswith("What you")
    assert any(heading.startswith("Why") for heading in headings)
    assert headings[-1] == "What else"


def test_the_tutorial_draws_its_pictures(tmp_path):
    [program] = re.findall(r"```python\n(.*?)```", TUTORIAL.read_text(encoding="utf-8"), re.DOTALL)[
        :1
    ]
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True)
    count = {folder: len(list((tmp_path / folder).glob("*.jpg"))) for folder in
             ("pets/cat", "pets/dog", "new")}  # fmt: skip
    assert count == {"pets/cat": 100, "pets/dog": 62, "new": 4}
    assert len((tmp_path / "pets.csv").read_text().splitlines()) == 161
