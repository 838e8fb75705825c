"""Drawn cats and dogs, to try the program without pictures of one's own.

    write_example("somewhere")       somewhere/pets/, somewhere/pets.csv, somewhere/new/

Cats and dogs differ in their ears alone, under blur and noise, so that a model gets some of them
wrong and its evaluation has something to show.
"""

from __future__ import annotations

import dataclasses
import io
import os

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from tf_image_classification.errors import ConfigError
from tf_image_classification.system import files

COUNTS = {"cat": 100, "dog": 60}
PETS, TABLE, NEW = "pets", "pets.csv", "new"
"""Names of the folder of labelled images, of the table about them, and of the folder without."""

_SIZE = (240, 180)
_NOISE = 50
_IMAGES_OF_AN_OWNER = 4
_CUT_OFF = 4000  # bytes that are left of the damaged image


@dataclasses.dataclass(frozen=True)
class _Pet:
    """A drawn image, the age that its face has, and tags of its background."""

    image: bytes
    age: int
    tags: str


def write_example(folder: str) -> list[str]:
    """Write ``pets/``, ``pets.csv`` and ``new/`` into a folder, the same ones every time.

    ``pets`` has an image of a cat among the dogs and one that is cut off, for ``tfic inspect`` to
    find. The table has an age, tags and an owner for each of the other images.

    Returns:
        The paths of the three.

    Raises:
        ConfigError: one of them exists already.
        DataError: the folder cannot be written.
    """
    paths = [files.join(folder, name) for name in (PETS, TABLE, NEW)]
    for path in paths:
        if files.exists(path):
            raise ConfigError(
                f"{path!r} exists already and is not overwritten. Remove it, or name another "
                "folder: tfic example FOLDER."
            )
    random = np.random.default_rng(0)
    written: dict[str, bytes] = {}
    rows = ["path,pet,age,tags,owner"]
    for kind, count in COUNTS.items():
        for number in range(count):
            pet = _drawn(kind, random)
            path = f"{PETS}/{kind}/{number:03}.jpg"
            written[path] = pet.image
            owner = f"{kind}-owner-{number // _IMAGES_OF_AN_OWNER}"
            rows.append(f"{path},{kind},{pet.age},{pet.tags},{owner}")
    for number, kind in enumerate(("cat", "dog", "cat", "dog")):
        written[f"{NEW}/{number}.jpg"] = _drawn(kind, random).image
    written[f"{PETS}/dog/100.jpg"] = written[f"{PETS}/cat/000.jpg"]
    written[f"{PETS}/dog/101.jpg"] = written[f"{PETS}/dog/001.jpg"][:_CUT_OFF]
    written[TABLE] = "".join(f"{row}\n" for row in rows).encode()
    for path, data in written.items():
        target = files.join(folder, path)
        files.make_folder(os.path.dirname(target))
        files.write_bytes(target, data)
    return paths


def _drawn(kind: str, random: np.random.Generator) -> _Pet:
    background, ears, face = (tuple(colour) for colour in random.integers(0, 256, (3, 3)).tolist())
    image = Image.new("RGB", _SIZE, background)
    pen = ImageDraw.Draw(image)
    x, y, radius = random.integers(70, 170), random.integers(70, 110), random.integers(16, 36)
    for side in (-1, 1):
        ear = x + side * radius * 0.7
        if kind == "cat":
            left, right = (ear - radius / 2, y - radius / 2), (ear + radius / 2, y - radius / 2)
            pen.polygon([left, right, (ear, y - radius * 1.6)], ears)
        else:
            middle = ear + side * radius / 4
            pen.ellipse(
                (middle - radius / 3, y - radius, middle + radius / 3, y + radius / 2), ears
            )
    pen.ellipse((x - radius, y - radius, x + radius, y + radius), face)
    blurred = image.filter(ImageFilter.GaussianBlur(random.uniform(0, 8)))
    noisy = np.asarray(blurred) + random.normal(0, _NOISE, (*reversed(_SIZE), 3))
    stream = io.BytesIO()
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(stream, "JPEG")
    red, green, blue = background
    tags = [tag for tag, is_it in {"warm": red > blue, "green": green > 127}.items() if is_it]
    return _Pet(stream.getvalue(), int(radius) - 14, "|".join(tags) or "|")
