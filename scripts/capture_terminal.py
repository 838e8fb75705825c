"""Run tfic in a terminal of 80 columns and write its screens as SVG files.

python scripts/capture_terminal.py PHOTOGRAPHS docs/images [NAME ...]

PHOTOGRAPHS has one folder of images per class. The commands run in a copy of it, so that no path of
the machine is on the screens; one photograph of each class is kept for the prediction. With
NAMEs only those screens are written; "evaluate" and "predict" need "train".
"""

import argparse
import contextlib
import fcntl
import os
import pathlib
import pty
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import termios

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.text import Text

COLUMNS, ROWS = 80, 50
COMMANDS = {
    "train-help": "tfic train --help",
    "backbones": "tfic backbones --download --max_gflops 1.5",
    "train": "tfic train trash",
    "evaluate": "tfic evaluate models/trash",
    "predict": "tfic predict models/trash new",
}
TOKENS = re.compile(r"\x1b\[([\d;?]*)([A-Za-z])|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|[\s\S]")


def run(command: str, folder: str) -> str:
    """What a command writes to a terminal."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    environment |= {
        "PATH": f"{os.path.dirname(sys.executable)}:{environment['PATH']}",
        "TERM": "xterm-256color",
    }
    process = subprocess.Popen(
        command.split(), cwd=folder, env=environment, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    parts = []
    with contextlib.suppress(OSError):  # the end, where the program has closed its side
        while part := os.read(ours, 65536):
            parts.append(part)
    os.close(ours)
    if process.wait() != 0:
        sys.exit(f"{command}: exit status {process.returncode}\n{b''.join(parts).decode()}")
    return b"".join(parts).decode()


def screen(written: str) -> list[str]:
    """The lines that remain on the screen, with their colours."""
    rows: list[list[str]] = [[]]
    row, column, style = 0, 0, ""
    for token in TOKENS.finditer(written):
        numbers, letter = token[1], token[2]
        count = int(numbers) if numbers and numbers.isdigit() else 1
        if letter == "m":
            style = "" if numbers in ("", "0") else style + token[0]
        elif letter == "A":
            row = max(row - count, 0)
        elif letter == "B":
            row += count
        elif letter == "K":
            del rows[row][0 if numbers == "2" else column :]
        elif token[0] == "\r":
            column = 0
        elif token[0] == "\n":
            row, column = row + 1, 0
        elif token[0] >= " ":
            if column == COLUMNS:
                row, column = row + 1, 0
            rows += [[] for _ in range(len(rows), row + 1)]
            rows[row] += [" "] * (column + 1 - len(rows[row]))
            rows[row][column] = f"{style}{token[0]}\x1b[0m" if style else token[0]
            column += 1
        rows += [[] for _ in range(len(rows), row + 1)]
    return ["".join(one) for one in rows]


def write_svg(command: str, lines: list[str], path: pathlib.Path) -> None:
    """The lines below their command, as a picture of a terminal."""
    while lines and not lines[-1].strip():
        lines.pop()
    with open(os.devnull, "w") as nowhere:
        console = Console(record=True, width=COLUMNS, file=nowhere)
        console.print(Text(f"$ {command}", "bold"))
        for line in lines:
            console.print(Text.from_ansi(line), soft_wrap=True)
    form = re.sub(r"@font-face \{\{.*?\}\}\s*", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    svg = console.export_svg(title="", code_format=form, unique_id=f"tfic-{path.stem}")
    path.write_text(svg, encoding="utf-8")


def copy_photographs(source: pathlib.Path, folder: pathlib.Path) -> None:
    """Make ``trash`` with the classes, and ``new`` with the last photograph of each."""
    (folder / "new").mkdir()
    for of_class in sorted(one for one in source.iterdir() if one.is_dir()):
        shutil.copytree(of_class, folder / "trash" / of_class.name)
        last = max((folder / "trash" / of_class.name).iterdir())
        last.rename(folder / "new" / last.name)


def main() -> None:
    """Run the commands and write their screens."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photographs", type=pathlib.Path)
    parser.add_argument("output", type=pathlib.Path)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(COMMANDS))
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        copy_photographs(given.photographs, pathlib.Path(folder))
        for name, command in COMMANDS.items():
            if not given.names or name in given.names:
                print(command, flush=True)
                written = run(command, folder)
                write_svg(command, screen(written), given.output / f"terminal-{name}.svg")


if __name__ == "__main__":
    main()
