"""Write the table of flags into the README, between its two markers."""

import pathlib

from tf_image_classification.config.command_line import flag_table

BEGIN, END = "<!-- flags: written by make docs -->\n", "<!-- end of flags -->\n"


def with_table(text: str) -> str:
    """The README's text with the table as the settings have it now."""
    before, rest = text.split(BEGIN)
    return before + BEGIN + "\n" + flag_table() + "\n" + END + rest.split(END)[1]


if __name__ == "__main__":
    readme = pathlib.Path(__file__).parents[1] / "README.md"
    readme.write_text(with_table(readme.read_text(encoding="utf-8")), encoding="utf-8")
