"""Files are told by their content, and by their name where that is all there is."""

import io
import subprocess
import sys

import pytest
from PIL import Image

from tf_image_classification.dataset.file_kinds import FIRST_BYTES, kind_of
from tf_image_classification.dataset.image.diagnose import explain_bad_image


def ftyp(brand, *others):
    size = 16 + 4 * len(others)
    return size.to_bytes(4, "big") + b"ftyp" + brand + bytes(4) + b"".join(others) + bytes(40)


CONTENT = {
    "HEIC": [ftyp(b"heic"), ftyp(b"mif1", b"mif1", b"heic"), ftyp(b"heix")],
    "AVIF": [ftyp(b"avif"), ftyp(b"mif1", b"miaf", b"avif")],
    "TIFF": [b"II*\0" + bytes(20), b"MM\0*" + bytes(20), b"II+\0" + bytes(20)],
    "JPEG 2000": [b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(20), b"\xff\x4f\xff\x51" + bytes(20)],
    "JPEG XL": [b"\xff\x0a" + bytes(20), b"\0\0\0\x0cJXL \r\n\x87\n"],
    "camera raw": [ftyp(b"crx ")],
    "MP4": [ftyp(b"isom"), ftyp(b"qt  ")],
    "DICOM": [bytes(128) + b"DICM" + bytes(20)],
    "NumPy array": [b"\x93NUMPY\x01\0v\0"],
    "HTML": [b"\n<!DOCTYPE html><html>", b"\xef\xbb\xbf<html>"],
    "Git LFS pointer": [b"version https://git-lfs.github.com/spec/v1\n"],
    "zeros only": [bytes(64)],
}


@pytest.mark.slow_after(4)
@pytest.mark.parametrize(("name", "data"), [(n, d) for n, files in CONTENT.items() for d in files])
def test_content_wins_over_the_name_and_gets_an_advice(name, data):
    kind = kind_of(data[:FIRST_BYTES], "photo.jpg")
    assert kind.name == name and not kind.is_decoded and kind.advice
    reason = explain_bad_image(data, max_pixels=100)
    assert f"looks like {name})" in reason and reason.endswith(kind.advice)


@pytest.mark.parametrize("kind", ["TIFF", "AVIF", "JPEG2000"])
def test_files_that_pillow_writes_are_told(kind):
    data = io.BytesIO()
    Image.new("RGB", (32, 32), (1, 2, 3)).save(data, kind)
    found = kind_of(data.getvalue()[:FIRST_BYTES])
    assert found.name.replace(" ", "") == kind and found.is_image
    assert "convert it to JPEG or PNG, e.g. with ImageMagick: magick mogrify" in found.advice


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("IMG_0001.HEIC", "HEIC"),
        ("a/b.c/scan.TIFF", "TIFF"),
        ("x.jp2", "JPEG 2000"),
        ("x.NEF", "camera raw"),
        ("x.mov", "MP4"),
        ("x.JPG", "JPEG"),
        ("x.webp", "WebP"),
        ("notes.txt", ""),
        ("README", ""),
        ("a.b/README", ""),
    ],
)
def test_a_name_alone_tells_the_kind(name, expected):
    kind = kind_of(b"", name)
    assert kind.name == expected and kind.is_decoded == (expected in ("JPEG", "WebP"))


def test_a_raw_file_that_begins_like_a_tiff_is_told_by_its_name():
    assert kind_of(b"II*\0" + bytes(20), "DSC1.NEF").name == "camera raw"
    assert kind_of(b"\xff\xd8\xff\xe0", "DSC1.NEF").is_decoded  # content first


def test_kinds_are_told_without_tensorflow():
    program = (
        "import sys; from tf_image_classification.dataset.file_kinds import kind_of;"
        "assert kind_of(b'', 'a.heic').name == 'HEIC'; assert 'tensorflow' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
