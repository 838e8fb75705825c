"""Phrases that readers had to read twice stay out of documents, messages and docstrings."""

import ast
import functools
import pathlib
import re

import pytest

import tf_image_classification

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = pathlib.Path(tf_image_classification.__file__).parent
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")]
PROGRAMS = [
    *PACKAGE.rglob("*.py"),
    *(ROOT / "benchmarks").rglob("*.py"),
    *ROOT.glob("scripts/*.py"),
]

LEFT_OUT = {
    r"\bshares? of\b": "fraction of, ratio of",
    r"\btold from\b": "inferred from, distinguished from",
    r"\bready spec\b": "backbone spec",
    r"\brecord of a run\b": "run manifest",
    r"\ban option acts\b": "every option takes effect or is rejected",
    r"\bby the clock\b": "by wall-clock time",
    r"\bweigh alike\b": "have the same weight",
    r"\bgives? way to\b": "any flag overrides it",
    r"\bby guessing\b": "chance level",
    r"\bsure of it\b": "most confident",
    r"\bsays? against\b": "no problems found",
    r"\bit may be:": "prediction set",
    r"\bpadding without\b": "placeholder row",
    r"\bwhat others have learned\b": "warm start, fine-tuning",
    r"\bwhat a (?:trained )?model makes of\b": "run inference on",
    r"\bfrom what is\b": "from, with a noun",
    r"\bends with the same bits\b": "resumes to bit-identical weights",
    r"\bwhat is (?:said|known) of\b": "a noun",
    r"\bsaying what\b": "inference",
    r"\bin one's own words\b": "a noun",
    r"\bbroken promise\b": "violation",
    r"\bstore it so that\b": "convert to TFRecords",
    r"\bsuch as\b": "e.g.",
}
"""Each phrase, and what to write in its place."""


@functools.cache
def texts_of(path):
    """The words of a page without its code, or the strings and docstrings of a module."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        return [re.sub(r"```.*?```", "", text, flags=re.DOTALL)]
    strings = [n.value for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Constant)]
    return [string for string in strings if isinstance(string, str)]


@pytest.mark.parametrize("phrase", LEFT_OUT)
def test_a_phrase_stays_out(phrase):
    found = [
        f"{path.relative_to(ROOT)}: {match[0]}; write {LEFT_OUT[phrase]}"
        for path in [*PAGES, *PROGRAMS]
        for text in texts_of(path)
        for match in re.finditer(phrase.replace(" ", r"\s+"), text, re.IGNORECASE)
    ]
    assert not found
