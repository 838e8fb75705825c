"""Check that a tag is the package's version, and that the changelog and the citation have its date.

python scripts/check_release.py v0.1.0
"""

from __future__ import annotations

import argparse
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).parents[1]


def problems(tag: str) -> list[str]:
    """What keeps a tag from being released, a sentence each."""
    package = (ROOT / "src/tf_image_classification/__init__.py").read_text(encoding="utf-8")
    version = found(r'__version__ = "(.+)"', package)
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    date = found(rf"^## {re.escape(version)} - (\d{{4}}-\d\d-\d\d)$", changelog)
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    checks = (
        (tag == f"v{version}", f"The tag is {tag}, the package's version {version}."),
        (bool(date), f"CHANGELOG.md has no heading '## {version} - YYYY-MM-DD'."),
        (found(r"^version: (.+)$", citation) == version, f"CITATION.cff is not of {version}."),
        (
            found(r"^date-released: (.+)$", citation) == date,
            f"CITATION.cff and CHANGELOG.md have different dates of {version}.",
        ),
    )
    return [text for is_right, text in checks if not is_right]


def found(pattern: str, text: str) -> str:
    """The first group of a pattern, or ""."""
    match = re.search(pattern, text, re.MULTILINE)
    return match[1] if match else ""


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tag")
    sys.exit("\n".join(problems(parser.parse_args().tag)) or None)
