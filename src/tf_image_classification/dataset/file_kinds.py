"""The kind of a file, inferred from its first bytes or its name, with advice.

    kind = kind_of(data[:FIRST_BYTES], "IMG_0012.HEIC")
    kind.name, kind.is_decoded, kind.advice        "HEIC", False, "convert it to JPEG ..."

Needs no TensorFlow, so that a folder of thousands of files is counted by kind in milliseconds.
"""

from __future__ import annotations

import dataclasses
import re

FIRST_BYTES = 256
"""Bytes from the beginning of a file that decide its kind."""


@dataclasses.dataclass(frozen=True)
class FileKind:
    """A kind of file.

    Attributes:
        name: e.g. "HEIC"; "" for an unknown kind.
        is_decoded: whether ``decode_image`` reads such files.
        is_image: whether it holds a picture, decoded or not.
        advice: for a kind that is not decoded, a phrase in the imperative; else "".
    """

    name: str
    is_decoded: bool = False
    is_image: bool = False
    advice: str = ""


UNKNOWN = FileKind("", advice="convert it to JPEG or PNG")

FORMAT_NAMES = {
    "jpeg": "JPEG",
    "png": "PNG",
    "gif": "GIF",
    "bmp": "BMP",
    "webp": "WebP",
    "ppm": "Netpbm",
}
"""Names of the decoded formats, by the values of ``image_format``."""


def kind_of(start: bytes, name: str = "") -> FileKind:
    """The kind of a file, from its content, or from its name if the content is not known.

    Args:
        start: its first ``FIRST_BYTES`` bytes, or more; b"" if only the name is known.
        name: file name or path, or "". Content takes precedence.

    Example:
        >>> kind_of(b"", "beach.HEIC").name
        'HEIC'
        >>> kind_of(b"II*" + bytes(9), "scan.jpg").name
        'TIFF'
    """
    found = image_format(start)
    if found != "unknown":
        return FileKind(FORMAT_NAMES[found], is_decoded=True, is_image=True)
    suffix = name.lower().rpartition(".")[2] if "." in name else ""
    content = _name_of_content(start)
    if content == "TIFF" and suffix in _RAW_SUFFIXES:
        content = "camera raw"  # most cameras' files begin like a TIFF
    if not content and not start:
        if suffix in _DECODED_SUFFIXES:
            return FileKind(_DECODED_SUFFIXES[suffix], is_decoded=True, is_image=True)
        content = _OTHER_SUFFIXES.get(suffix, "")
    if not content:
        return UNKNOWN
    return FileKind(content, False, content in _PICTURES, _ADVICE.get(content, _NO_IMAGE))


def image_format(data: bytes) -> str:
    """The image format of encoded bytes: jpeg, png, gif, bmp, webp, ppm or unknown.

    Example:
        >>> image_format(b"GIF89a"), image_format(b"RIFF")
        ('gif', 'unknown')
    """
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "webp"
    if re.match(rb"P[56][\s#]", data):
        return "ppm"
    signatures = {
        b"\xff\xd8\xff": "jpeg",
        b"\x89PNG\r\n\x1a\n": "png",
        b"GIF8": "gif",  # TensorFlow looks at these four bytes only
        b"BM": "bmp",
    }
    return next((name for start, name in signatures.items() if data.startswith(start)), "unknown")


_DECODED_SUFFIXES = {
    suffix: name
    for name, suffixes in {
        "JPEG": "jpg jpeg jpe jfif mpo",
        "PNG": "png apng",
        "GIF": "gif",
        "BMP": "bmp dib",
        "WebP": "webp",
        "Netpbm": "ppm pgm pnm",
    }.items()
    for suffix in suffixes.split()
}
_OTHER_SUFFIXES = {
    suffix: name
    for name, suffixes in {
        "HEIC": "heic heif hif",
        "AVIF": "avif avifs",
        "TIFF": "tif tiff",
        "JPEG 2000": "jp2 j2k jpf jpx j2c jpc",
        "JPEG XL": "jxl",
        "PSD": "psd psb",
        "ICO": "ico cur",
        "SVG": "svg svgz",
        "PDF": "pdf",
        "DICOM": "dcm dicom",
        "NumPy array": "npy npz",
        "MP4": "mp4 mov m4v",
        "video": "avi mkv webm",
        "camera raw": "dng nef cr2 cr3 arw orf rw2 raf pef srw",
    }.items()
    for suffix in suffixes.split()
}
_RAW_SUFFIXES = {suffix for suffix, name in _OTHER_SUFFIXES.items() if name == "camera raw"}

_PICTURES = (
    *("HEIC", "AVIF", "TIFF", "JPEG 2000", "JPEG XL", "PSD", "ICO", "SVG", "PDF", "DICOM"),
    *("camera raw", "Netpbm other than P5 and P6"),
)
_NO_IMAGE = "remove it, or replace it by a JPEG or PNG"
_ADVICE = {
    "HEIC": "convert it to JPEG or PNG, e.g. with ImageMagick: magick mogrify -format jpg *.heic",
    "AVIF": "convert it to JPEG or PNG, e.g. with ImageMagick: magick mogrify -format jpg *.avif",
    "TIFF": "convert it to JPEG or PNG, e.g. with ImageMagick: magick mogrify -format png *.tif",
    "JPEG 2000": (
        "convert it to JPEG or PNG, e.g. with ImageMagick: magick mogrify -format png *.jp2"
    ),
    "JPEG XL": "convert it to JPEG or PNG, e.g. with ImageMagick: magick mogrify -format jpg *.jxl",
    "camera raw": "convert it to JPEG or PNG, e.g. with darktable or dcraw",
    "DICOM": "convert it to PNG, e.g. with dcm2img of DCMTK; pixels of 16 bits stay 16 bits",
    "NumPy array": "write its pixels to a PNG, e.g. with Pillow's Image.fromarray",
    "Git LFS pointer": "fetch the file itself: git lfs pull",
    "GZIP-compressed data": "unpack it with gunzip",
    "ZIP archive": "unpack it",
    "HTML": "download the image again; this is the web page that came instead",
    "zeros only": "copy it again; a failed copy leaves zeros",
    "MP4": "take a frame of the video as a JPEG or PNG",
    "video": "take a frame of the video as a JPEG or PNG",
    "Netpbm other than P5 and P6": "convert it to JPEG or PNG",
    "PSD": "convert it to JPEG or PNG",
    "ICO": "convert it to JPEG or PNG",
    "SVG": "draw it as a PNG, e.g. with rsvg-convert",
    "PDF": "draw its page as a PNG, e.g. with pdftoppm -png",
    "PostScript": "draw it as a PNG",
}

_SIGNATURES = {
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",
    b"MM\0+": "TIFF",
    b"8BPS": "PSD",
    b"\0\0\0\x0cjP  ": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
    b"\xff\x0a": "JPEG XL",
    b"\0\0\0\x0cJXL ": "JPEG XL",
    b"\0\0\1\0": "ICO",
    b"\x93NUMPY": "NumPy array",
    b"%PDF": "PDF",
    b"%!PS": "PostScript",
    b"PK\x03\x04": "ZIP archive",
    b"\x1f\x8b": "GZIP-compressed data",
    b"version https://git-lfs": "Git LFS pointer",
    b"<svg": "SVG",
    b"<?xml": "XML or SVG",
    b"<!doctype": "HTML",
    b"<html": "HTML",
    b"<head": "HTML",
    b"{": "JSON",
    b"RIFF": "AVI or WAV",
    b"\x1a\x45\xdf\xa3": "video",
}
_AVIF_BRANDS = (b"avif", b"avis")
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")


def _name_of_content(data: bytes) -> str:
    """The kind of bytes of a format that is not decoded; "" if unknown."""
    start = data[:64].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    for signature, name in _SIGNATURES.items():
        if data.startswith(signature) or start.startswith(signature):
            return name
    if re.match(rb"P[1-7]\s", data):
        return "Netpbm other than P5 and P6"
    if data[4:8] == b"ftyp":
        size = int.from_bytes(data[:4], "big")
        brands = [data[8:12], *(data[i : i + 4] for i in range(16, min(size, len(data)), 4))]
        if any(brand in _AVIF_BRANDS for brand in brands):
            return "AVIF"
        if data[8:12] == b"crx ":
            return "camera raw"
        return "HEIC" if any(brand in _HEIC_BRANDS for brand in brands) else "MP4"
    if data[128:132] == b"DICM":
        return "DICOM"
    return "zeros only" if data and not data.strip(b"\0") else ""
