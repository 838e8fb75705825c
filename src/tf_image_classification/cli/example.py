"""``tfic example [FOLDER]``: a small data set of drawn images, to try the program with."""

from __future__ import annotations

import dataclasses
import shlex

from tf_image_classification.cli.verb import verb
from tf_image_classification.config import Settings, declare


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arguments:
    """The arguments of ``tfic example``."""

    folder: str = declare(".", "Folder that gets pets/, pets.csv and new/.")


@verb(
    "example",
    Arguments,
    description="Draw a data set to try the program with: 160 cats and dogs in pets/, two of the\n"
    "mistakes that real folders have, a table pets.csv, and four images in new/.",
    example="tfic example",
    positions=("folder",),
    may_need_no_tensorflow=True,
)
def main(given: Arguments, settings: Settings) -> int:
    """Write the images; returns the exit status."""
    from tf_image_classification.workflows.example_data import write_example  # late: NumPy

    paths = write_example(given.folder)
    for path in paths:
        print(f"wrote {path}")
    print(f"next: tfic inspect {shlex.quote(paths[0])}")
    return 0
