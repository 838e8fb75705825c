"""Sphinx extension: generated parts, search words, links to files outside, ``llms.txt``."""

from __future__ import annotations

import pathlib
import re

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.errors import ExtensionError
from sphinx.util.typing import ExtensionMetadata

from reference import with_parts
from search_words import with_entries

_LINK_TO_PAGE = re.compile(
    r"\[(?P<text>[^]]*)\]\((?!\w+:)(?P<target>[^)#\s]+\.md)(?P<anchor>#[^)\s]*)?\)"
)
_NAMED_ROWS = {"reference/options": "confval", "reference/environment": "envvar"}
"""Kind of object, by the page with tables of such objects."""

_SENTENCE = re.compile(r"^.*?(?<!\be\.g)(?<!\bi\.e)[.!?:](?=\s|$)", re.DOTALL)


def setup(app: Sphinx) -> ExtensionMetadata:
    """Connect the steps to Sphinx's events."""
    app.connect("env-get-outdated", generated_pages)
    app.connect("source-read", fill_generated_parts)
    app.connect("doctree-read", name_rows)
    app.connect("doctree-resolved", open_pages)
    app.connect("missing-reference", find_public_name)
    app.connect("build-finished", write_index_for_language_models)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


def generated_pages(
    app: Sphinx, env: BuildEnvironment, added: set[str], changed: set[str], removed: set[str]
) -> list[str]:
    """The pages with generated parts, which every build reads anew: the code may have changed."""
    pages = (name for name in env.found_docs if name not in added)
    return [name for name in pages if "<!-- generated: " in env.doc2path(name).read_text("utf-8")]


def fill_generated_parts(app: Sphinx, docname: str, source: list[str]) -> None:
    """Generate the parts of a page before it is parsed, change its links, add search words."""
    page = pathlib.Path(app.env.doc2path(docname))
    try:
        text = with_parts(source[0])
    except KeyError as error:
        raise ExtensionError(f"{page}: {error.args[0]}") from error
    linked = with_links_of_site(text, page, pathlib.Path(app.srcdir))
    source[0] = with_entries(docname, linked)


def with_links_of_site(text: str, page: pathlib.Path, root: pathlib.Path) -> str:
    """A page's text with its links to Markdown files as the site needs them.

    A link whose text is the file's name gets the title of the page or of the section instead, and a
    link to a file outside of the site becomes plain text.

    Args:
        text: the page's text.
        page: its file.
        root: the folder of the site's pages.
    """

    def changed(match: re.Match[str]) -> str:
        if not (page.parent / match["target"]).resolve().is_relative_to(root.resolve()):
            return match["text"]
        is_named = match["text"].endswith(".md")
        return f"[]({match['target']}{match['anchor'] or ''})" if is_named else match.group()

    return _LINK_TO_PAGE.sub(changed, text)


def name_rows(app: Sphinx, page: nodes.document) -> None:
    """Make the names in a table's first column targets, which the search lists first."""
    kind = _NAMED_ROWS.get(app.env.docname)
    for row in page.findall(nodes.row) if kind else ():
        for name in (literal.astext() for literal in row[0].findall(nodes.literal)):
            anchor = f"{kind}-{name}"
            row[0]["ids"].append(anchor)
            app.env.domains.standard_domain.note_object(kind, name, anchor, location=row)


def open_pages(app: Sphinx, page: nodes.document, docname: str) -> None:
    """Make links to pages of HTML open them; Sphinx's links to files download these."""
    for link in list(page.findall(addnodes.download_reference)):
        if link["reftarget"].endswith(".html"):
            address = "../" * docname.count("/") + f"_downloads/{link['filename']}"
            link.replace_self(nodes.reference("", "", *link.children, refuri=address))


def find_public_name(
    app: Sphinx, env: BuildEnvironment, node: addnodes.pending_xref, content: nodes.TextElement
) -> nodes.Element | None:
    """Link a name that a docstring gives without its module, e.g. ``DataError``."""
    if node.get("refdomain") != "py" or node.get("refspecific"):
        return None
    node["refspecific"] = True
    return env.domains.python_domain.resolve_xref(
        env, node["refdoc"], app.builder, node["reftype"], node["reftarget"], node, content
    )


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
