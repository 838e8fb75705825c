"""Which changes of a picture ``tfic inspect`` sees through, and what it takes for copies falsely.

    python benchmarks/near_duplicates.py FOLDER [--digits MNIST]

Each photograph of the folder is changed and encoded again; found are those that are put into one
group with their original. A group of different photographs is false, unless they are copies in the
folder itself. With ``--digits``, the folder of MNIST's idx files, groups among 4,000 different
digits are counted too: small pictures of one kind are the hardest to tell apart.
"""

from __future__ import annotations

import argparse
import io
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from tf_image_classification.dataset.readers import Row, find_examples
from tf_image_classification.inspection.image_stats import decode_measured, measure_image
from tf_image_classification.inspection.same_pictures import same_pictures

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from changed_pictures import balanced, curve

NUM_DIGITS = 4000


def shifted_hue(degrees):
    """All hues turned by an angle."""

    def change(image):
        values = np.asarray(image.convert("HSV")).copy()
        values[..., 0] += np.uint8(degrees * 256 // 360)
        return Image.fromarray(values, "HSV").convert("RGB")

    return change


CHANGES = {
    "JPEG of quality 30": lambda image: image,
    "two thirds of the size": lambda image: image.resize([side * 2 // 3 for side in image.size]),
    "1 stop brighter": curve(lambda v: (2 * v**2.2) ** (1 / 2.2)),
    "1.5 stops brighter": curve(lambda v: (2**1.5 * v**2.2) ** (1 / 2.2)),
    "1 stop darker": curve(lambda v: (v**2.2 / 2) ** (1 / 2.2)),
    "gamma 0.6": curve(lambda v: v**0.6),
    "gamma 1.7": curve(lambda v: v**1.7),
    "brighter by 50": curve(lambda v: v + 50 / 255),
    "darker by 50": curve(lambda v: v - 50 / 255),
    "contrast 0.6": lambda image: ImageEnhance.Contrast(image).enhance(0.6),
    "contrast 1.5": lambda image: ImageEnhance.Contrast(image).enhance(1.5),
    "grey": lambda image: image.convert("L").convert("RGB"),
    "saturation 1.8": lambda image: ImageEnhance.Color(image).enhance(1.8),
    "warmer": balanced(1.25, 0.75),
    "colder": balanced(0.8, 1.25),
    "hue by 20 degrees": shifted_hue(20),
    "hue by 60 degrees": shifted_hue(60),
    "automatic contrast": lambda image: ImageOps.autocontrast(image, cutoff=2),
    "equalised": ImageOps.equalize,
}


class Kept:
    """An image in memory, in the place of a file."""

    kind, path = "bytes", ""

    def __init__(self, image, quality):
        data = io.BytesIO()
        image.save(data, "JPEG", quality=quality)
        self._data = data.getvalue()

    def read(self):
        return self._data


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder")
    parser.add_argument("--digits", default="")
    given = parser.parse_args()
    originals = [
        measure_image(row) for row in find_examples([given.folder], option="FOLDER").rows()
    ]
    originals = [facts for facts in originals if not facts.problem]
    count = len(originals)
    own = same_pictures(originals)
    first_of = {i: group[0] for group in own for i in group}
    print(f"{count} photographs, {len(own)} groups of copies among them")
    for name, change in CHANGES.items():
        quality = 30 if "quality" in name else 75
        changed = []
        for facts in originals:
            image = change(Image.fromarray(decode_measured(facts)))
            changed.append(measure_image(Row("", Kept(image, quality), {})))
        groups = same_pictures([*originals, *changed])
        found = sum(any(i + count in group for group in groups if i in group) for i in range(count))
        pictures = [{first_of.get(i % count, i % count) for i in group} for group in groups]
        false = sum(len(of_group) > 1 for of_group in pictures)
        print(f"{name:<24} found {found / count:6.1%}   false groups {false}", flush=True)
    if given.digits:
        rows = list(find_examples([given.digits], option="--digits").rows())[:NUM_DIGITS]
        facts = [measure_image(row) for row in rows]
        print(f"{len(facts)} digits: {len(same_pictures(facts))} groups")


if __name__ == "__main__":
    main()
