"""Self-contained HTML pages, and Markdown, rendered from the templates of this folder.

    render("report.html", report=report)

A page holds its style sheet, its script and its images. All values are escaped, and the content
security policy of a page allows only its own script and no network, so a hostile class name or
file name stays text. Markdown is not escaped as HTML; its templates use the filter ``plain``.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import re
from collections.abc import Sequence
from typing import Any

import jinja2
from markupsafe import Markup

_CONTROLS = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


def render(template: str, *, scripts: Sequence[str] = ("page.js",), **content: Any) -> str:
    """The text of a page or of a Markdown document.

    Args:
        template: name of a file in ``templates/``.
        scripts: files of the page's script, there too; ``common.js`` precedes them.
        content: the values that the template shows.

    Raises:
        jinja2.UndefinedError: the template shows a value that is missing.
    """
    code = "\n".join(map(_source, ("common.js", *scripts)))
    return (
        _environment()
        .get_template(template)
        .render(
            content,
            contents=[],  # the sections of the page, filled while they are rendered
            style=Markup(_source("style.css")),
            script=Markup(code),
            script_digest=base64.b64encode(hashlib.sha256(code.encode()).digest()).decode(),
        )
    )


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("tf_image_classification.pages"),
        autoescape=jinja2.select_autoescape(disabled_extensions=("md",), default=True),
        undefined=jinja2.StrictUndefined,
        finalize=_without_controls,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["shorten"] = shorten
    environment.filters["plain"] = plain_markdown
    return environment


@functools.cache
def _source(name: str) -> str:
    environment = _environment()
    assert environment.loader is not None
    return environment.loader.get_source(environment, name)[0]


def _without_controls(value: Any) -> Any:
    """A text with its control characters written out, also those that change its direction."""
    if not isinstance(value, str):
        return value
    text = _CONTROLS.sub(lambda match: f"\\u{ord(match[0]):04x}", value)
    return Markup(text) if isinstance(value, Markup) else text


def shorten(text: str, longest: int = 40) -> str:
    """A text without its middle where it is too long; long names often differ at their ends.

    Example:
        >>> shorten("a name of many words", 12)
        'a name …ords'
    """
    if len(text) <= longest:
        return text
    end = longest // 3
    return f"{text[: longest - 1 - end]}…{text[-end:]}"


def plain_markdown(text: str) -> str:
    r"""A text for one line or table cell of a Markdown document, without markup.

    Example:
        >>> plain_markdown("a|b <i>")
        'a\\|b \\<i>'
    """
    return re.sub(r"([\\|<`])", r"\\\1", " ".join(text.split()))
