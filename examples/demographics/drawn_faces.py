"""Drawn faces whose age and gender are known, for trying the example without a download.

They stand in for photographs: a drawing shows its age by proportions, grey hair, hairline and
wrinkles, and its gender by hair, brows, lips and beard, each with chance and in people who differ.
What a model learns from them says nothing of real faces.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import os

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

SIZE = 96  # pixels
_SCALE = 3  # drawn larger, then reduced, which smooths the edges
Colour = tuple[int, int, int]
TONES = ("light", "medium", "dark")
_SKINS = ((238, 205, 180), (198, 150, 115), (116, 78, 56))
_HAIRS = ((40, 28, 20), (92, 60, 34), (150, 104, 52), (206, 168, 98))
MOST_MISSING, CONTRADICTIONS, MALFORMED = 0.03, 5, 3


@dataclasses.dataclass(frozen=True)
class Person:
    """What does not change from one picture of somebody to the next.

    Attributes:
        number: who it is.
        gender: 0 male, 1 female.
        tone: index into ``TONES``.
        hair: index of the hair colour.
        born_age: age in the first picture, in years.
        greys_at: age at which half of the hair is grey, in years.
        width: width of the face beside the usual one.
        has_beard: whether a beard grows.
        has_long_hair: whether the hair is long.
        balds: whether the hairline goes back with age.
    """

    number: int
    gender: int
    tone: int
    hair: int
    born_age: int
    greys_at: float
    width: float
    has_beard: bool
    has_long_hair: bool
    balds: bool


def make_person(number: int, random: np.random.Generator) -> Person:
    """Somebody, by chance."""
    gender = int(random.random() < 0.5)
    return Person(
        number=number,
        gender=gender,
        tone=int(random.choice(3, p=[0.5, 0.3, 0.2])),
        hair=int(random.integers(len(_HAIRS))),
        born_age=int(np.clip(random.gamma(2.2, 15), 0, 92)),
        greys_at=random.normal(50, 7),
        width=random.normal(1.0, 0.05),
        has_beard=bool(gender == 0 and random.random() < 0.45),
        has_long_hair=bool(random.random() < (0.8, 0.12)[1 - gender]),
        balds=bool(gender == 0 and random.random() < 0.5),
    )


def draw_face(person: Person, age: int, random: np.random.Generator) -> Image.Image:
    """A picture of somebody at an age, in a light and a pose of its own; RGB, 96 x 96 pixels."""
    side = SIZE * _SCALE
    background = tuple(random.integers(60, 220, 3).tolist())
    image = Image.new("RGB", (side, side), background)
    drawing = _Drawing(image, person, age, random)
    drawing.head_and_hair()
    drawing.eyes_and_brows()
    drawing.nose_and_mouth()
    drawing.wrinkles()
    return _photographed(image, random)


class _Drawing:
    """One face in the making; lengths are in pixels of the enlarged image."""

    def __init__(
        self, image: Image.Image, person: Person, age: int, random: np.random.Generator
    ) -> None:
        side = image.width
        self.draw, self.person, self.age, self.random = ImageDraw.Draw(image), person, age, random
        grey = 1 / (1 + np.exp(-(age - person.greys_at) / 6))
        self.hair = _mixed(_HAIRS[person.hair], (205, 205, 205), grey)
        self.skin = _mixed(np.array(_SKINS[person.tone]) + random.normal(0, 8, 3), (0, 0, 0), 0.0)
        self.shade = _mixed(self.skin, (0, 0, 0), 0.45)
        child = self.child = np.clip((16 - age) / 16, 0, 1)
        self.x = side / 2 + random.normal(0, side / 60)
        self.top, self.height = side * (0.16 + 0.05 * child), side * (0.70 - 0.10 * child)
        breadth = 0.25 + 0.03 * child + 0.015 * (1 - person.gender)
        self.half = side * breadth * person.width
        self.eyes = self.top + self.height * (0.46 + 0.08 * child)
        self.mouth = self.top + self.height * 0.78
        self.apart, self.eye = self.half * 0.42, self.half * (0.115 + 0.06 * child)

    def oval(self, x: float, y: float, rx: float, ry: float, colour: Colour) -> None:
        self.draw.ellipse([x - rx, y - ry, x + rx, y + ry], fill=colour)

    def line(self, points: list[tuple[float, float]], colour: Colour, width: float) -> None:
        self.draw.line(points, fill=colour, width=max(1, round(width * _SCALE)), joint="curve")

    def head_and_hair(self) -> None:
        """Babies have little hair, some men lose theirs."""
        x, half, top, height = self.x, self.half, self.top, self.height
        if self.person.has_long_hair and self.age > 3:
            box = [x - half * 1.3, top, x + half * 1.3, top + height * 0.98]
            self.draw.rounded_rectangle(box, radius=half * 0.8, fill=self.hair)
        lost = 0.75 * self.person.balds * np.clip((self.age - 25) / 50, 0, 1)
        fullness = min(1.0, (self.age + 0.5) / 3) * (1 - lost)
        self.oval(x, top + height * 0.3, half * 1.12, height * 0.36 * max(fullness, 0.3), self.hair)
        self.oval(x, top + height / 2, half, height / 2, self.skin)
        if fullness > 0.15:  # the part of the face above the hairline
            share = 0.08 + 0.16 * fullness
            angle = np.degrees(np.arcsin(1 - 2 * share))
            box = [x - half, top, x + half, top + height]
            self.draw.chord(box, 180 + angle, 360 - angle, fill=self.hair)

    def eyes_and_brows(self) -> None:
        """Large in children, below heavier brows in men."""
        brow = (1.0 + 1.6 * (self.person.gender == 0)) * (1 - 0.6 * self.child)
        for sign in (-1, 1):
            x, y, eye = self.x + sign * self.apart, self.eyes, self.eye
            self.oval(x, y, eye * 1.5, eye, (245, 245, 245))
            self.oval(x, y, eye * 0.8, eye * 0.8, (50, 40, 35))
            arch = [(x - eye * 2, y - eye * 1.9), (x, y - eye * 2.5), (x + eye * 2, y - eye * 1.9)]
            self.line(arch, _mixed(self.hair, (0, 0, 0), 0.3), brow)

    def nose_and_mouth(self) -> None:
        """With painted lips in most grown women, and a beard in some men."""
        x, half, mouth = self.x, self.half, self.mouth
        if self.person.has_beard and self.age >= 18:
            self.oval(x, mouth + half * 0.2, half * 0.62, half * 0.52, self.hair)
        nose = self.eyes + self.height * (0.17 - 0.05 * self.child)
        bridge = [(x, self.eyes), (x - self.eye * 0.7, nose), (x + self.eye * 0.5, nose)]
        self.line(bridge, self.shade, 0.8)
        is_painted = self.person.gender == 1 and self.age > 14 and self.random.random() < 0.7
        lips = (190, 60, 70) if is_painted else _mixed(self.skin, (150, 60, 60), 0.5)
        self.oval(x, mouth, half * 0.33, half * 0.085, lips)

    def wrinkles(self) -> None:
        """Of the forehead, beside the eyes and beside the mouth, deeper with age."""
        x, half, top, height = self.x, self.half, self.top, self.height
        depth = np.clip((self.age - 22) / 55, 0, 1)
        colour = _mixed(self.skin, self.shade, depth)
        for i in range(round(depth * 5)):
            y = top + height * (0.26 + 0.035 * i)
            self.line([(x - half * 0.5, y), (x, y - 4), (x + half * 0.5, y)], colour, 0.6)
        for sign in (-1, 1):
            corner = x + sign * (self.apart + half * 0.27)
            for i in range(round(depth * 4)):
                end = (corner + sign * half * 0.2, self.eyes + (i - 1.5) * half * 0.1)
                self.line([(corner, self.eyes), end], colour, 0.5)
            if depth > 0.15:
                fold = x + sign * half * 0.34
                points = [
                    (fold, self.mouth - height * 0.14),
                    (fold + sign * half * 0.12, self.mouth),
                ]
                self.line(points, colour, 0.8)


def _mixed(a: npt.ArrayLike, b: npt.ArrayLike, share: float) -> Colour:
    """Two colours, the second with its share."""
    mixed = np.asarray(a, float) * (1 - share) + np.asarray(b, float) * share
    red, green, blue = (int(v) for v in np.clip(mixed, 0, 255))
    return red, green, blue


def _photographed(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """The drawing turned a little, in some light, blurred and with noise."""
    image = image.rotate(random.normal(0, 6), resample=Image.Resampling.BILINEAR)
    image = image.resize((SIZE, SIZE), Image.Resampling.BOX)
    image = image.filter(ImageFilter.GaussianBlur(random.uniform(0, 0.7)))
    pixels = np.asarray(image, float) * random.uniform(0.6, 1.15)
    pixels += random.normal(0, random.uniform(2, 9), pixels.shape)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def write_faces(folder: str, *, num_people: int, seed: int = 0) -> str:
    """Draw people three times each, with their labels in ``faces.csv``; returns its path.

    Files are named ``age_gender_tone_number.jpg``. As in collections of photographs some labels
    are missing, a few pictures are there twice with contradicting labels, and a few names are
    malformed.
    """
    table = os.path.join(folder, "faces.csv")
    if os.path.exists(table):
        return table
    os.makedirs(folder, exist_ok=True)
    random = np.random.default_rng(seed)
    rows = []
    for number in range(num_people):
        person = make_person(number, random)
        for picture in range(3):
            age = min(100, person.born_age + picture * int(random.integers(1, 4)))
            name = f"{age}_{person.gender}_{person.tone}_{number:05d}{picture}.jpg"
            data = io.BytesIO()
            draw_face(person, age, random).save(data, "JPEG", quality=92)
            _write(os.path.join(folder, name), data.getvalue())
            gender = "" if random.random() < MOST_MISSING else ("male", "female")[person.gender]
            shown_age = "" if random.random() < MOST_MISSING else str(age)
            rows.append([name, shown_age, gender, f"p{number:05d}", TONES[person.tone]])
            if number < CONTRADICTIONS and picture == 0:
                copy = f"{min(100, age + 20)}_{1 - person.gender}_{person.tone}_{number:05d}9.jpg"
                _write(os.path.join(folder, copy), data.getvalue())
                other = ("female", "male")[person.gender]
                rows.append([copy, str(min(100, age + 20)), other, f"p{number:05d}",
                             TONES[person.tone]])  # fmt: skip
            if number < MALFORMED and picture == 1:
                _write(os.path.join(folder, f"{age}_{number:05d}.jpg"), data.getvalue())
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["URIs", "age", "gender", "person", "tone"])
    writer.writerows(rows)
    _write(table, text.getvalue().encode())
    return table


def _write(path: str, data: bytes) -> None:
    temporary = f"{path}.partial"
    with open(temporary, "wb") as stream:
        stream.write(data)
    os.replace(temporary, path)
