"""The guides: their commands can be typed, and those of the tutorial run."""

import importlib
import pathlib
import re
import shlex

import pytest

from tf_image_classification.cli.main import VERBS, main

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
    for folder in ("models/pets", "pets", "new", "rare", "path", "flower_photos"):
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
def test_every_guide_has_the_same_parts(page):
    headings = re.findall(r"^## (.+)$", (DOCS / page).read_text(encoding="utf-8"), re.M)
    assert headings[0].startswith("What to run")
    assert headings[1].startswith("What you")
    assert any(heading.startswith("Why") for heading in headings)
    assert headings[-1] == "What else"


@pytest.mark.slow
def test_the_tutorial_runs_to_its_end(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    text = TUTORIAL.read_text(encoding="utf-8")
    quick = {"backbone": "mobilenet_v1_025", "checkpoint_path": "none", "image_size": 32}
    more = [f"--{name}={value}" for name, value in {**quick, "epochs": 1}.items()]
    ran = []
    for line in "\n".join(re.findall(r"```sh\n(.*?)```", text, re.DOTALL)).splitlines():
        words = shlex.split(line, comments=True)
        if words[:1] == ["rm"]:
            for name in words[1:]:
                (tmp_path / name).unlink()
        elif words[:1] == ["tfic"] and words[1] not in ("serve", "--version"):
            status = main([*words[1:], *(more if words[1] == "train" else ())])
            ran.append((words[1], status, capsys.readouterr().out))
    assert [verb for verb, status, _ in ran if status] == ["inspect"]
    [found, clean] = [printed for verb, _, printed in ran if verb == "inspect"]
    assert all(kind in found and kind in text for kind in ("broken: 1 image", "conflicts: 1 pict"))
    assert "no problems found" in clean
    made = ["models/pets/report.html", "models/pets/exports/onnx/model.onnx", "inspection.html"]
    assert all((tmp_path / name).exists() for name in made)
