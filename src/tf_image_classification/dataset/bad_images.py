"""What is wrong with an image that cannot be decoded, in words that can follow a file's name."""

from __future__ import annotations

import re

import tensorflow as tf

from tf_image_classification.dataset.decode import DECLARED_SIZES, TENSORFLOW_MAX_PIXELS, decoder
from tf_image_classification.dataset.graph_bytes import as_node

_NAMES = {
    "jpeg": "JPEG",
    "png": "PNG",
    "gif": "GIF",
    "bmp": "BMP",
    "webp": "WebP",
    "ppm": "Netpbm",
}


def explain_bad_image(data: bytes, *, max_pixels: int) -> str | None:
    """What is wrong with an image, or None when ``decode_image`` accepts it.

    Args:
        data: the file's bytes.
        max_pixels: as given to ``decode_image``.

    Returns:
        A phrase that can follow a file's name and a colon.

    Example:
        >>> explain_bad_image(b"", max_pixels=100)
        '0 bytes'
    """
    try:
        decoder(max_pixels)(tf.constant(data))
    except tf.errors.InvalidArgumentError:
        return explain_failure(data, max_pixels=max_pixels)
    return None


def explain_failure(data: bytes, *, max_pixels: int) -> str:
    """What is wrong with an image that ``decode_image`` has refused; as ``explain_bad_image``."""
    if not data:
        return "0 bytes"
    first_bytes = f"first bytes {data[:16]!r}"
    kind = image_format(data)
    if kind == "unknown":
        guess = _guess_of_unknown(data)
        hint = f", looks like {guess}" if guess else ""
        return f"not an image of a known format ({first_bytes}{hint}): convert it to JPEG or PNG"
    name = _NAMES[kind]
    damaged = f"{name} data is cut short or damaged ({first_bytes}; {len(data):,} bytes in all)"
    if kind == "bmp":
        damaged += ", or compressed, or of a colour depth other than 1, 4, 8, 24 and 32 bits"
    if kind == "ppm":
        damaged += ", or of values other than 0 to 255, or its header is longer than 256 bytes"
    if kind == "png" and data[12:16] != b"IHDR":
        return damaged
    try:
        size = as_node(DECLARED_SIZES[kind])(tf.constant(data))  # eagerly a GIF may take minutes
    except tf.errors.InvalidArgumentError:
        return damaged
    height, width = size.numpy().tolist()
    pixels = f"{width} x {height} = {width * height:,} pixels"
    if width <= 0 or height <= 0:
        return f"{name} data of {width} x {height} pixels ({first_bytes})"
    if width * height > max_pixels:
        return f"{pixels}, more than max_image_pixels {max_pixels:,}"
    if width * height > TENSORFLOW_MAX_PIXELS:
        return f"{pixels}, more than the {TENSORFLOW_MAX_PIXELS:,} that TensorFlow decodes"
    return damaged


def image_format(data: bytes) -> str:
    """The format the bytes announce: jpeg, png, gif, bmp, webp, ppm or unknown."""
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "webp"
    if re.match(rb"P[56][\s#]", data):
        return "ppm"
    signatures = {
        b"\xff\xd8\xff": "jpeg",
        b"\x89PNG\r\n\x1a\n": "png",
        b"GIF8": "gif",  # as TensorFlow tells it
        b"BM": "bmp",
    }
    return next((name for start, name in signatures.items() if data.startswith(start)), "unknown")


_OTHER_SIGNATURES = {
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",
    b"8BPS": "PSD",
    b"\0\0\0\x0cjP  ": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
    b"\xff\x0a": "JPEG XL",
    b"\0\0\0\x0cJXL ": "JPEG XL",
    b"\0\0\1\0": "ICO",
    b"%PDF": "PDF",
    b"%!PS": "PostScript",
    b"PK\x03\x04": "a ZIP archive",
    b"\x1f\x8b": "GZIP-compressed data",
    b"version https://git-lfs": "a Git LFS pointer",
    b"<svg": "SVG",
    b"<?xml": "XML or SVG",
    b"<!doctype": "HTML",
    b"<html": "HTML",
    b"<head": "HTML",
    b"{": "JSON",
    b"RIFF": "AVI or WAV",
}


def _guess_of_unknown(data: bytes) -> str:
    """What bytes of no known format look like; empty when there is no telling."""
    start = data[:64].lstrip(b"\xef\xbb\xbf \t\r\n")
    for signature, name in _OTHER_SIGNATURES.items():
        if data.startswith(signature) or start.lower().startswith(signature):
            return name
    if re.match(rb"P[1-7]\s", data):
        return "a Netpbm image other than PGM (P5) and PPM (P6)"
    if data[4:8] == b"ftyp":
        brand = data[8:12]
        if brand in (b"avif", b"avis"):
            return "AVIF"
        return "HEIC" if brand in (b"heic", b"heix", b"mif1", b"msf1", b"hevc") else "MP4"
    if not data.strip(b"\0"):
        return "zeros only, as a failed copy leaves them"
    return ""
