"""Write the generated tables into the pages of docs, between their markers.

python scripts/write_tables.py
"""

import pathlib
import sys

DOCS = pathlib.Path(__file__).parents[1] / "docs"
sys.path.insert(0, str(DOCS / "_ext"))

from reference import STORED, with_parts  # noqa: E402


def main() -> None:
    """Rewrite the pages that have changed."""
    for page in sorted((DOCS / "reference").glob("*.md")):
        text = page.read_text(encoding="utf-8")
        current = with_parts(text, STORED)
        if current != text:
            page.write_text(current, encoding="utf-8")
            print(f"wrote {page}")


if __name__ == "__main__":
    main()
