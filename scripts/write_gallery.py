"""Write the pages in docs/gallery: an inspection and a report of the images of ``tfic example``.

python scripts/write_gallery.py docs/gallery
"""

from __future__ import annotations

import argparse
import pathlib
import subprocess
import sys
import tempfile

MISTAKES = ("pets/dog/100.jpg", "pets/dog/101.jpg")  # that the tutorial removes


def tfic(folder: pathlib.Path, *words: str) -> None:
    """A command, run in a folder; an inspection with findings ends with status 1."""
    command = [sys.executable, "-m", "tf_image_classification", *words]
    subprocess.run(command, cwd=folder, check=words[0] != "inspect")


def write(page: pathlib.Path, folder: pathlib.Path, target: pathlib.Path) -> None:
    """Copy a page without the path of the temporary folder."""
    text = page.read_text(encoding="utf-8").replace(f"{folder}/", "")
    target.write_text(text, encoding="utf-8")


def main() -> None:
    """The commands of the tutorial up to the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=pathlib.Path)
    output = parser.parse_args().output
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        tfic(folder, "example")
        tfic(folder, "inspect", "pets")
        write(folder / "inspection.html", folder, output / "pets-inspection.html")
        for name in MISTAKES:
            (folder / name).unlink()
        tfic(folder, "train", "pets", "--noprogress")
        tfic(folder, "report", "models/pets")
        write(folder / "models/pets/report.html", folder, output / "pets-report.html")


if __name__ == "__main__":
    main()
