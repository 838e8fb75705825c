"""Decoding of any supported image to upright RGB, without TensorFlow: NumPy and Pillow's decoders.

    image = decode(data, max_pixels=100_000_000)

The pixels are those of ``dataset.image.decode``, bit for bit. Headers are read here and not by
Pillow, so that both accept the same files; Pillow's compiled decoders do the rest.
"""

from __future__ import annotations

import io
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from tf_image_classification.config import FULL_RANGE, PixelRange
from tf_image_classification.dataset.image import headers
from tf_image_classification.dataset.image.diagnose import explain_failure, image_format
from tf_image_classification.dataset.image.limits import TENSORFLOW_MAX_PIXELS
from tf_image_classification.errors import BadImageError

Pixels = npt.NDArray[np.uint8]

_TURNS = (
    *((False, 1, 1), (False, 1, 1), (False, 1, -1), (False, -1, -1), (False, -1, 1)),
    *((True, 1, 1), (True, 1, -1), (True, -1, -1), (True, -1, 1)),
)
"""By orientation: whether to transpose, then the steps along rows and columns."""


class _Damaged(Exception):
    """The image cannot be decoded."""


def decode(data: bytes, *, max_pixels: int, png16_range: PixelRange = FULL_RANGE) -> Pixels:
    """Decode one encoded image, upright.

    Args:
        data: the file's bytes, in a format of ``dataset.image.decode.decode_image``.
        max_pixels: maximum of width times height, checked before memory is allocated.
        png16_range: the values of a 16-bit PNG that become 0 and 255; others are clipped.

    Returns:
        uint8 [H, W, 3], RGB, 0-255.

    Raises:
        BadImageError: the bytes are not such an image, are damaged, or have too many pixels.

    Example:
        >>> decode(b"P6 1 1 255 abc", max_pixels=1).tolist()
        [[[97, 98, 99]]]
    """
    limit = min(max_pixels, TENSORFLOW_MAX_PIXELS)
    try:
        return np.ascontiguousarray(_decoded(data, limit, png16_range))
    except (_Damaged, headers.HeaderError, OSError, ValueError, SyntaxError, zlib.error) as error:
        raise BadImageError(explain_failure(data, max_pixels=max_pixels)) from error


def _decoded(data: bytes, limit: int, png16_range: PixelRange) -> Pixels:
    match image_format(data):
        case "jpeg":
            return _decode_jpeg(data, limit)
        case "png":
            return _decode_png(data, limit, png16_range)
        case "gif":
            return _decode_gif(data, limit)
        case "bmp":
            return _decode_bmp(data, limit)
        case "webp":
            return _decode_webp(data, limit)
        case "ppm":
            return _decode_netpbm(data, limit)
    raise _Damaged("not an image of a known format")


def _check(size: headers.Size, limit: int) -> None:
    height, width = size
    if height <= 0 or width <= 0 or height * width > limit:
        raise _Damaged("no pixels, or too many")


def _upright(image: Pixels, data: bytes, kind: str) -> Pixels:
    is_transposed, rows, columns = _TURNS[headers.image_orientation(data, kind)]
    return (image.transpose(1, 0, 2) if is_transposed else image)[::rows, ::columns]


def _by_pillow(
    name: str, mode: str, size: headers.Size, data: bytes, *arguments: Any
) -> npt.NDArray[Any]:
    """Pixels from one of Pillow's decoders of compressed data."""
    return np.asarray(Image.frombytes(mode, size[::-1], data, name, arguments))


# JPEG ----------------------------------------------------------------------------------------


def _decode_jpeg(data: bytes, limit: int) -> Pixels:
    header = headers.jpeg_header(data)
    _check(header.size, limit)
    if headers.has_too_many_scans(data, header):
        raise _Damaged("too many scans")
    if header.num_components == 4:
        image = _from_cmyk(_by_pillow("jpeg", "CMYK", header.size, data, "CMYK", ""), header)
    elif header.num_components in (1, 3):
        image = _by_pillow("jpeg", "RGB", header.size, data, "RGB", "")
    else:
        raise _Damaged("neither grey, RGB nor CMYK")
    return _upright(image, data, "jpeg")


def _from_cmyk(pixels: Pixels, header: headers.JpegHeader) -> Pixels:
    """RGB by TensorFlow's formula."""
    values = pixels.astype(np.int32)
    values = values if header.is_adobe else 255 - values
    return (values[..., :3] * values[..., 3:] // 255).astype(np.uint8)


# PNG -----------------------------------------------------------------------------------------

_PNG_MODES = {  # bits and colour type: Pillow's mode and layout of the raw pixels
    (1, 0): ("1", "1"),
    (2, 0): ("L", "L;2"),
    (4, 0): ("L", "L;4"),
    (8, 0): ("L", "L"),
    (8, 2): ("RGB", "RGB"),
    (1, 3): ("P", "P;1"),
    (2, 3): ("P", "P;2"),
    (4, 3): ("P", "P;4"),
    (8, 3): ("P", "P"),
    (8, 4): ("LA", "LA"),
    (8, 6): ("RGBA", "RGBA"),
    (16, 0): ("LA", "LA"),  # the bytes of big-endian values as channels
    (16, 4): ("RGBA", "RGBA"),
    (16, 6): ("RGBA", "RGBA;16B"),
    (16, 2): ("RGB", "RGB;16B"),
}


_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_PASSES = (  # of an interlaced image: first row and column, steps along rows and columns
    *((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4)),
    *((2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)),
)


def _decode_png(data: bytes, limit: int, png16_range: PixelRange) -> Pixels:
    _check(headers.declared_size(data, "png"), limit)
    if headers.has_too_many_texts(data):
        raise _Damaged("too many texts")
    content = headers.png_content(data)
    if (content.bits, content.colour) not in _PNG_MODES:
        raise _Damaged("PNG of an unknown kind")
    mode, raw = _PNG_MODES[content.bits, content.colour]
    rows = zlib.compress(_png_rows(content), 0)  # for Pillow to undo the filters

    def read(raw: str) -> npt.NDArray[Any]:
        return _by_pillow("zip", mode, content.size, rows, raw, int(content.is_interlaced))

    values = read(raw)
    values = values if values.ndim == 3 else values[..., None]
    is_grey = content.colour in (0, 4)
    channels = values[..., :1] if is_grey else values[..., :3]
    if content.colour == 3:
        image = _colours(content.palette)[values[..., 0]]
    elif content.bits == 1:
        image = np.where(values, np.uint8(255), np.uint8(0))
    elif content.bits == 16 and png16_range != FULL_RANGE:
        # The low bytes of grey values are another channel here.
        low = values[..., 1:2] if is_grey else read(raw[:-1] + "L")[..., :3]
        image = _scaled(256 * channels.astype(np.float32) + low, png16_range)
    else:
        image = channels
    if image.shape[2] == 1:
        image = np.repeat(image, 3, axis=2)
    return _upright(image, data, "png")


def _png_rows(content: headers.PngContent) -> bytes:
    """The rows of a PNG, unpacked, each after the number of its filter."""
    (height, width), bits = content.size, content.bits * _PNG_CHANNELS[content.colour]
    num_bytes = 0
    for top, left, down, right in _PASSES if content.is_interlaced else ((0, 0, 1, 1),):
        num_rows, row_pixels = -((top - height) // down), -((left - width) // right)
        num_bytes += num_rows * (1 + (row_pixels * bits + 7) // 8) if row_pixels > 0 else 0
    unpacked = zlib.decompressobj()
    rows = unpacked.decompress(content.pixels, num_bytes)
    if len(rows) < num_bytes:
        raise _Damaged("too few pixels")
    try:
        while not unpacked.eof:  # libpng reads on to the end
            further = unpacked.decompress(unpacked.unconsumed_tail, 2**16)
            if not further and not unpacked.unconsumed_tail and not unpacked.eof:
                raise _Damaged("compressed data without an end")
    except zlib.error:
        pass  # and ignores damage there
    return rows


def _colours(table: bytes) -> Pixels:
    """RGB colours one after another, [256, 3]; black beyond the end."""
    return np.frombuffer(table[:768].ljust(768, b"\0"), np.uint8).reshape(256, 3)


def _scaled(values: npt.NDArray[np.float32], png16_range: PixelRange) -> Pixels:
    low, high = png16_range
    scaled = np.clip((values - np.float32(low)) * np.float32(255 / (high - low)), 0, 255)
    rounded: Pixels = (scaled + np.float32(0.5)).astype(np.uint8)
    return rounded


# GIF -----------------------------------------------------------------------------------------


def _decode_gif(data: bytes, limit: int) -> Pixels:
    frame = headers.gif_frame(data)
    _check(frame.canvas, limit)
    left, top, width, height = frame.box
    own = headers.color_table_bytes(frame.flags)
    colors_at = frame.at + 10 if own else 13
    num_bytes = own or headers.color_table_bytes(headers.integers(data, 10, "B")[0])
    colors = _colours(data[colors_at : colors_at + num_bytes]).copy()
    pixels_at = frame.at + 11 + own
    end, _, is_complete = headers.after_sub_blocks(data, pixels_at, len(data))
    if not is_complete:
        raise _Damaged("GIF that is cut short")
    bits = headers.integers(data, pixels_at - 1, "B")[0]
    is_interlaced = frame.flags >> 6 & 1
    index = _by_pillow("gif", "L", (height, width), data[pixels_at:end], bits, is_interlaced)
    if (index[index != frame.transparent] >= num_bytes // 3).any():
        raise _Damaged("GIF of other colours")
    if frame.transparent >= 0:
        colors[frame.transparent] = 0
    canvas = np.zeros((*frame.canvas, 3), np.uint8)
    canvas[top : top + height, left : left + width] = colors[index]
    return canvas


# BMP -----------------------------------------------------------------------------------------


def _decode_bmp(data: bytes, limit: int) -> Pixels:
    pixels_at, header_bytes, width, height, bits, compression = headers.integers(data, 10, "<6i")
    bits //= 2**16  # the low 16 bits are the number of planes, always 1
    num_rows = abs(height)
    _check((num_rows, width), limit)
    has_usual_masks = headers.integers(data, 54, "<3i") == (0xFF0000, 0xFF00, 0xFF)
    is_known = compression == 0 and bits in (1, 4, 8, 24, 32)
    is_known |= compression == 3 and bits == 32 and has_usual_masks
    is_known &= data[:2] == b"BM" and header_bytes >= 40 and pixels_at >= 54 and width < 2**26
    if not is_known:
        raise _Damaged("BMP of an unknown kind")
    row_bytes = (width * bits + 31) // 32 * 4
    if bits == 24 and len(data) != pixels_at + num_rows * row_bytes:
        raise _Damaged("BMP with missing or further bytes")
    rows = np.frombuffer(data, np.uint8, num_rows * row_bytes, pixels_at)
    rows = rows.reshape(num_rows, row_bytes)[:, : (width * bits + 7) // 8]
    if bits > 8:
        image = rows.reshape(num_rows, width, bits // 8)[:, :, 2::-1]
    else:
        at = 14 + header_bytes
        palette = data[at : max(pixels_at, at)][:1024].ljust(1024, b"\0")
        colors = np.frombuffer(palette, np.uint8).reshape(256, 4)[:, 2::-1]
        index = rows[:, :, None] >> np.arange(8 - bits, -1, -bits) & 2**bits - 1
        image = colors[index.reshape(num_rows, -1)[:, :width]]
    return image[::-1] if height > 0 else image


# WebP ----------------------------------------------------------------------------------------


def _decode_webp(data: bytes, limit: int) -> Pixels:
    from PIL.WebPImagePlugin import WebPImageFile  # late: the library takes memory

    _check(headers.declared_size(data, "webp"), limit)
    whole = data if headers.is_animated_webp(data) else headers.webp_still(data)
    with WebPImageFile(io.BytesIO(whole)) as file:
        image = np.asarray(file)[..., :3]
    return _upright(image, data, "webp")


# Netpbm --------------------------------------------------------------------------------------


def _decode_netpbm(data: bytes, limit: int) -> Pixels:
    header = headers.netpbm_header(data)
    _check(header.size, limit)
    height, width = header.size
    count = height * width * header.channels
    pixels = np.frombuffer(data, np.uint8, count, header.pixels_at)
    image = pixels.reshape(height, width, header.channels)
    return image if header.channels == 3 else np.repeat(image, 3, axis=2)
