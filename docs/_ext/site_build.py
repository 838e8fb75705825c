"""Sphinx extension: generated parts, links to files outside of the documentation, ``llms.txt``."""

from __future__ import annotations

import pathlib
import re
from typing import Any

from docutils import nodes
from reference import with_parts
from sphinx.application import Sphinx
from sphinx.util.typing import ExtensionMetadata

_LINK_TO_PAGE = re.compile(r"\[(?P<text>[^]]*)\]\((?!\w+:)(?P<target>[^)#\s]+\.md)(?:#[^)\s]*)?\)")
_SENTENCE = re.compile(r"^.*?[.:!?](?=\s|$)", re.DOTALL)


def setup(app: Sphinx) -> ExtensionMetadata:
    """Connect the steps to Sphinx's events."""
    app.connect("source-read", fill_generated_parts)
    app.connect("build-finished", write_index_for_language_models)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


def fill_generated_parts(app: Sphinx, docname: str, source: list[str]) -> None:
    """Generate the parts of a page before it is parsed; unlink pages outside of the site."""
    page = pathlib.Path(app.env.doc2path(docname))
    source[0] = without_links_out(with_parts(source[0]), page, pathlib.Path(app.srcdir))


def without_links_out(text: str, page: pathlib.Path, root: pathlib.Path) -> str:
    """A page's text in which links to Markdown files outside of the site are plain text.

    Args:
        text: the page's text.
        page: its file.
        root: the folder of the site's pages.
    """

    def unlinked(match: re.Match[str]) -> str:
        target = (page.parent / match["target"]).resolve()
        return match.group() if target.is_relative_to(root.resolve()) else match["text"]

    return _LINK_TO_PAGE.sub(unlinked, text)


def write_index_for_language_models(app: Sphinx, exception: Exception | None) -> None:
    """Write ``llms.txt``: each page with its title and its first sentence, in the menu's order."""
    if exception is not None or app.builder.format != "html":
        return
    titles, env = app.env.titles, app.env
    lines = [f"# {app.config.project}", "", f"> {first_sentence(env.get_doctree('index'))}", ""]
    for section in env.toctree_includes["index"]:
        lines += [f"## {titles[section].astext()}", ""]
        for name in (section, *env.toctree_includes.get(section, ())):
            sentence = first_sentence(env.get_doctree(name))
            address = app.builder.get_target_uri(name)
            lines.append(f"- [{titles[name].astext()}]({address}): {sentence}".rstrip(": "))
        lines.append("")
    path = pathlib.Path(app.outdir) / "llms.txt"
    path.write_text("\n".join(lines), encoding="utf-8")


def first_sentence(page: nodes.document) -> str:
    """The first sentence of a page's first paragraph; "" if it has none."""
    for paragraph in page.findall(nodes.paragraph):
        text = " ".join(paragraph.astext().split())
        found = _SENTENCE.match(text)
        return (found.group() if found else text).rstrip(":")
    return ""
