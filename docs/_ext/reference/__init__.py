"""The generated parts of the documentation, each a function that returns Markdown.

A page has two markers; what is between them comes from the code:

    <!-- generated: options -->
    <!-- end -->

``PARTS`` names the function of each marker. ``scripts/write_tables.py`` writes the parts in
``STORED`` into the pages, so that they can be read without a build; a build of the site
(``sphinx_extension``) makes all of them anew.
"""

import re

from reference import api, commands, error_pages, options
from reference.metrics import metric_table

PARTS = {
    "api": api.api_page,
    "commands": commands.command_pages,
    "error-classes": error_pages.error_classes,
    "error-messages": error_pages.error_messages,
    "exit-statuses": commands.exit_statuses,
    "metrics": metric_table,
    "options": options.option_tables,
}

STORED = ("error-classes", "exit-statuses", "metrics", "options")
"""The parts that the repository holds too; the others are long and change often."""

_MARKED = re.compile(r"(<!-- generated: ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def with_parts(text: str, names: tuple[str, ...] = tuple(PARTS)) -> str:
    """A page's text with its generated parts as the code has them now.

    Args:
        text: the page.
        names: the parts to generate; the others stay as they are.

    Raises:
        KeyError: the page asks for an unknown part.
    """

    def replaced(match: re.Match[str]) -> str:
        begin, name, end = match.groups()
        if name not in PARTS:
            raise KeyError(f"{name!r} is no generated part. Known: {', '.join(sorted(PARTS))}.")
        return f"{begin}\n{PARTS[name]()}\n{end}" if name in names else match.group()

    return _MARKED.sub(replaced, text)
