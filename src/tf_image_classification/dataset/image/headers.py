r"""Headers of encoded images, read without TensorFlow: declared size, EXIF orientation, guards.

    >>> declared_size(b"BM" + bytes(16) + b"\3\0\0\0\2\0\0\0", "bmp")
    (2, 3)

``decode`` has the same rules as TensorFlow operations, for graphs. Reading beyond the end of the
data gives zeros.
"""

from __future__ import annotations

import dataclasses
import re
import struct
import zlib
from collections.abc import Iterator

from tf_image_classification.dataset.image.limits import (
    EXIF_SEARCHED_BYTES,
    MAX_CHUNKS,
    MAX_GIF_STEPS,
    MAX_MARKERS,
    MAX_SCAN_PIXELS,
    MAX_TEXT_CHUNKS,
    MIN_SCAN_BYTES,
    SHORT_PNG_BYTES,
)

Size = tuple[int, int]
"""Height and width, in pixels."""

# Any bytes of a comment: it ends with its line.
_SPACE = rb"(?:[\t\n\f\r ]|#[^\n]*\n)+"
_NETPBM = re.compile(
    rb"P([56])" + _SPACE + rb"(\d{1,8})" + _SPACE + rb"(\d{1,8})" + _SPACE + rb"255[\t\n\f\r ]"
)
_MAX_NETPBM_BYTES = 256
_PNG_CRITICAL = (b"IHDR", b"PLTE", b"IDAT", b"IEND")
_MAX_PNG_SIDE = 1_000_000  # libpng's own limit
# Markers before the first scan of a JPEG: without content, of frames, others that may come there.
_WITHOUT_CONTENT = (0x00, 0x01, *range(0xD0, 0xD8))
_FRAMES = (0xC0, 0xC1, 0xC2, 0xC9, 0xCA)
_TABLES = (0xC4, 0xCC, 0xDB, 0xDC, 0xDD, *range(0xE0, 0xF0), 0xFE)
# Start of scan, the length of its header, the number of components.
_SCAN = re.compile(rb"\xff\xda\x00(?:\x08\x01|\x0a\x02|\x0c\x03|\x0e\x04)")


class HeaderError(ValueError):
    """The header of an image is damaged."""


def declared_size(data: bytes, kind: str) -> Size:
    """Height and width that an image declares; they may be zero or negative.

    Args:
        data: the file's bytes.
        kind: its format as of ``image_format``, not "unknown".

    Raises:
        HeaderError: the header is damaged.
    """
    if kind == "jpeg":
        return jpeg_header(data).size
    if kind == "png":
        width, height = integers(data, 16, ">2i")
        return height, width
    if kind == "gif":
        return gif_frame(data).canvas
    if kind == "bmp":
        width, height = integers(data, 18, "<2i")
        return abs(height), width  # rows from the top down have a negative height
    if kind == "webp":
        return _webp_size(data)
    return netpbm_header(data).size


def integers(data: bytes, start: int, layout: str) -> tuple[int, ...]:
    """Integers in the layout of ``struct`` from an offset; zeros beyond the end."""
    length = struct.calcsize(layout)
    return struct.unpack(layout, data[start : start + length].ljust(length, b"\0"))


# JPEG ----------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class JpegHeader:
    """What precedes the first scan of a JPEG.

    Attributes:
        size: height and width.
        num_components: 1, 3 or 4 in usual files.
        is_of_one_scan: whether it is sequential with all components in its first scan.
        is_adobe: whether it has an Adobe marker, with which CMYK values are inverted.
    """

    size: Size
    num_components: int
    is_of_one_scan: bool
    is_adobe: bool


def jpeg_header(data: bytes) -> JpegHeader:
    """The header of a JPEG, read as libjpeg reads it.

    Raises:
        HeaderError: it is damaged, or of a kind that libjpeg does not decode.
    """
    at, frame, is_adobe = 2, None, False
    while True:
        at = data.find(b"\xff", at)
        while data[at : at + 1] == b"\xff":
            at += 1
        if not 0 < at < len(data):
            raise HeaderError("JPEG without a scan")
        marker, at = data[at], at + 1
        if marker in _WITHOUT_CONTENT:
            continue
        (length,) = integers(data, at, ">H")
        if marker == 0xDA:  # start of scan
            break
        if marker in _FRAMES:
            precision, height, width, num_components = integers(data, at + 2, ">BHHB")
            if frame or precision != 8 or length != 8 + 3 * num_components:
                raise HeaderError("JPEG with a damaged frame header")
            frame = marker, (height, width), num_components
        elif marker not in _TABLES:
            raise HeaderError(f"JPEG with the marker {marker:#x} in its header")
        elif marker == 0xEE and length >= 14 and data[at + 2 : at + 7] == b"Adobe":
            is_adobe = True
        at += length
    if frame is None:
        raise HeaderError("JPEG without a frame")
    kind, size, num_components = frame
    in_scan = integers(data, at + 2, "B")[0]
    is_of_one_scan = kind in (0xC0, 0xC1) and in_scan == num_components
    return JpegHeader(size, num_components, is_of_one_scan, is_adobe)


def has_too_many_scans(data: bytes, header: JpegHeader) -> bool:
    """Whether pixels times scans of a JPEG exceed ``MAX_SCAN_PIXELS``."""
    pixels = header.size[0] * header.size[1]
    if pixels * (len(data) // MIN_SCAN_BYTES + 1) <= MAX_SCAN_PIXELS or header.is_of_one_scan:
        return False
    return pixels * num_scans(data) > MAX_SCAN_PIXELS


def num_scans(data: bytes) -> int:
    """Number of scan headers in a JPEG, including those of an embedded thumbnail."""
    return len(_SCAN.findall(data))


def jpeg_exif(data: bytes) -> bytes:
    """Content of the first EXIF segment before the scan; b"" without one near the beginning."""
    if data.find(b"Exif", 0, EXIF_SEARCHED_BYTES - 1) < 0:
        return b""
    at = 2
    for _ in range(MAX_MARKERS):
        if at >= len(data) or data[at + 4 : at + 10] == b"Exif\0\0":
            break
        marker, length = integers(data, at, ">2H")
        if marker in (0xFFDA, 0xFFD9):  # start of scan, end of image
            return b""
        at += 1 if marker < 0xFFC0 or marker == 0xFFFF else 2 + length
    (length,) = integers(data, at + 2, ">H")
    return data[at + 4 : at + 4 + max(length - 2, 0)]


# PNG -----------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class PngContent:
    """What a PNG's pixels are made of.

    Attributes:
        size: height and width.
        bits: of each channel.
        colour: 0 grey, 2 RGB, 3 palette, 4 grey with alpha, 6 RGB with alpha.
        is_interlaced: whether the pixels come in seven passes.
        palette: RGB colours one after another; b"" where the pixels have no palette.
        pixels: compressed.
    """

    size: Size
    bits: int
    colour: int
    is_interlaced: bool
    palette: bytes
    pixels: bytes


def png_content(data: bytes) -> PngContent:
    """The parts of a PNG that its pixels depend on.

    Raises:
        HeaderError: it is damaged, by the rules of libpng.
    """
    chunks = _png_chunks(data)
    name, header = next(chunks)
    if name != b"IHDR" or len(header) != 13:
        raise HeaderError("PNG without a header")
    width, height, bits, colour, *methods, interlace = struct.unpack(">2I5B", header)
    parts: list[bytes] = []
    palette, is_after, has_palette = b"", False, False
    for name, content in chunks:
        is_after |= bool(parts) and name != b"IDAT"
        if name == b"IDAT":
            parts += [] if is_after else [content]
        elif name == b"PLTE" and has_palette:
            raise HeaderError("PNG with two palettes")
        elif name == b"PLTE" and not parts:
            has_palette = True
            if colour == 3:
                if len(content) % 3 or not 0 < len(content) <= 768:
                    raise HeaderError("PNG with a damaged palette")
                palette = content[: 3 << bits]
        elif name == b"IHDR":
            raise HeaderError("PNG with two headers")
    if not parts or (colour == 3 and not palette):
        raise HeaderError("PNG without pixels or without its palette")
    if any(methods) or interlace > 1 or max(width, height) > _MAX_PNG_SIDE:
        raise HeaderError("PNG of an unknown kind")
    return PngContent((height, width), bits, colour, interlace == 1, palette, b"".join(parts))


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Names and contents of a PNG's chunks to its end; only those of critical chunks are verified.

    Raises:
        HeaderError: a critical chunk is damaged, or the end is missing.
    """
    at = 8
    while at + 12 <= len(data):
        length, name = struct.unpack(">I4s", data[at : at + 8])
        end = at + 8 + length
        if length >= 2**31 or not name.isalpha() or end + 4 > len(data):
            break
        content = data[at + 8 : end]
        if name < b"a":
            (checksum,) = struct.unpack(">I", data[end : end + 4])
            if name not in _PNG_CRITICAL or zlib.crc32(content, zlib.crc32(name)) != checksum:
                break
        yield name, content
        if name == b"IEND":
            return
        at = end + 4
    raise HeaderError("PNG with a damaged chunk")


def has_too_many_texts(data: bytes) -> bool:
    """Whether a PNG has more than ``MAX_TEXT_CHUNKS`` compressed texts."""
    return len(data) > SHORT_PNG_BYTES and num_text_chunks(data) > MAX_TEXT_CHUNKS


def num_text_chunks(data: bytes) -> int:
    """Number of chunks of a PNG that may be compressed texts.

    Counts the end of their names, zTXt and iTXt, which occurs in pixels by chance once in 16 MB.
    """
    return max(data.count(b"TXt") - len(data) // 2**22, 0)


def png_exif(data: bytes) -> bytes:
    """Content of the EXIF chunk before the image data; b"" without one."""
    at = 33
    for _ in range(MAX_CHUNKS):
        length, name = max(integers(data, at, ">i")[0], 0), data[at + 4 : at + 8]
        if name == b"eXIf":
            return data[at + 8 : at + 8 + length]
        if name in (b"IDAT", b""):
            break
        at += 12 + length
    return b""


# GIF -----------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class GifFrame:
    """The place of a GIF's first frame.

    Attributes:
        canvas: height and width of the image that the frame is part of.
        box: left, top, width and height of the frame, in pixels.
        at: offset of its descriptor, in bytes.
        flags: of the descriptor.
        transparent: index of the transparent colour, or -1.
    """

    canvas: Size
    box: tuple[int, int, int, int]
    at: int
    flags: int
    transparent: int


def gif_frame(data: bytes) -> GifFrame:
    """The first frame of a GIF.

    Raises:
        HeaderError: there is none.
    """
    width, height, flags = integers(data, 6, "<HHB")
    at, steps, transparent, is_controlled = 13 + color_table_bytes(flags), MAX_GIF_STEPS, -1, False
    while data[at : at + 1] == b"!" and steps > 0:
        if data[at + 1 : at + 2] == b"\xf9" and not is_controlled:  # graphic control extension
            is_controlled = True
            length, options, _, index = integers(data, at + 2, "<BBHB")
            transparent = index if length == 4 and options & 1 else -1
        at, steps, _ = after_sub_blocks(data, at + 2, steps)
    mark, *box, frame_flags = integers(data, at, "<B4HB")
    if mark != ord(","):
        raise HeaderError("GIF without a frame")
    left, top, frame_width, frame_height = box
    canvas = (
        max(height, top + frame_height) if frame_height else 0,
        max(width, left + frame_width) if frame_width else 0,
    )
    return GifFrame(canvas, (left, top, frame_width, frame_height), at, frame_flags, transparent)


def color_table_bytes(flags: int) -> int:
    """Length of the colour table that the flags of a GIF's screen or frame declare."""
    return 3 * (2 << flags % 8) if flags >= 128 else 0


def after_sub_blocks(data: bytes, at: int, steps: int) -> tuple[int, int, bool]:
    """End of a chain of length-prefixed blocks, the number of steps left, whether it is complete.

    The end of the data where the chain is cut short or takes too many steps. A step skips up to 16
    blocks of 255 bytes, as in ``decode``.
    """
    size = len(data)
    at = min(at, size)
    while at < size and steps > 0:
        full = 0
        while full < 16 and data[at + 256 * full : at + 256 * full + 1] == b"\xff":
            full += 1
        at, steps = at + 256 * full, steps - 1
        if full < 16 and at < size:
            length = data[at]
            at += 1 + length
            if length == 0:
                return at, steps, True
    return size, steps, False


# WebP ----------------------------------------------------------------------------------------


def _webp_size(data: bytes) -> Size:
    kind = data[8:16]
    if kind == b"WEBPVP8 ":
        width, height = integers(data, 26, "<2H")
        return height % 2**14, width % 2**14
    if kind == b"WEBPVP8L":
        (packed,) = integers(data, 21, "<I")
        return packed // 2**14 % 2**14 + 1, packed % 2**14 + 1
    if kind == b"WEBPVP8X":
        sides = (data[24:30]).ljust(6, b"\0")
        return int.from_bytes(sides[3:], "little") + 1, int.from_bytes(sides[:3], "little") + 1
    return 0, 0


def webp_still(data: bytes) -> bytes:
    """A WebP with one image, without the chunks that do not decide its pixels.

    Like TensorFlow, it does not look behind that image, which may continue in what follows.

    Raises:
        HeaderError: the chunks before the image are damaged.
    """
    (total,) = integers(data, 4, "<I")
    at, alpha, canvas = 12, None, None
    if total < 12 or total > len(data) - 8:
        raise HeaderError("WebP with a wrong length")
    if data[12:16] == b"VP8X":
        at, canvas = 30, data[24:30]
        if integers(data, 16, "<I") != (10,):
            raise HeaderError("WebP with a damaged header")
    while data[at : at + 4] not in (b"VP8 ", b"VP8L"):
        (length,) = integers(data, at + 4, "<I")
        end = at + 8 + length + length % 2
        if canvas is None or end > len(data) or end - 8 > total:
            raise HeaderError("WebP with a damaged chunk")
        if data[at : at + 4] == b"ALPH":
            alpha = data[at + 8 : at + 8 + length]
        at = end
    (length,) = integers(data, at + 4, "<I")
    size, image = declared_size(b"RIFF0000WEBP" + data[at:], "webp"), data[at + 8 :]
    if at + 8 + length > min(len(data), total + 8):
        raise HeaderError("WebP that is cut short")
    if canvas is not None and size != declared_size(data, "webp"):
        raise HeaderError("WebP with an image of another size")
    chunks = _webp_chunk(data[at : at + 4], image)
    if alpha is not None and canvas is not None:
        header = _webp_chunk(b"VP8X", b"\x10\0\0\0" + canvas)
        chunks = header + _webp_chunk(b"ALPH", alpha) + chunks
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WEBP" + chunks


def _webp_chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)


def is_animated_webp(data: bytes) -> bool:
    """Whether the header of a WebP announces an animation."""
    return data[15:16] == b"X" and bool(integers(data, 20, "B")[0] & 2)


def webp_exif(data: bytes) -> bytes:
    """Content of the EXIF chunk that the header announces; b"" without one."""
    if data[15:16] != b"X" or not integers(data, 20, "B")[0] & 8:
        return b""
    at = 30
    for _ in range(MAX_CHUNKS):
        name, length = data[at : at + 4], max(integers(data, at + 4, "<i")[0], 0)
        if name == b"EXIF":
            return data[at + 8 : at + 8 + length]
        if not name:
            break
        at += 8 + length + length % 2  # RIFF pads to even lengths
    return b""


# Netpbm --------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class NetpbmHeader:
    """The header of a Netpbm image.

    Attributes:
        channels: 1 or 3.
        size: height and width.
        pixels_at: offset of the pixels, in bytes.
    """

    channels: int
    size: Size
    pixels_at: int


def netpbm_header(data: bytes) -> NetpbmHeader:
    """The header of a binary Netpbm image with values up to 255.

    Raises:
        HeaderError: it is of another kind.
    """
    match = _NETPBM.match(data[:_MAX_NETPBM_BYTES])
    if match is None:
        raise HeaderError("Netpbm of an unknown kind")
    channels = 1 if match[1] == b"5" else 3
    return NetpbmHeader(channels, (int(match[3]), int(match[2])), match.end())


# EXIF ----------------------------------------------------------------------------------------


def image_orientation(data: bytes, kind: str) -> int:
    """The EXIF orientation that applies to an image, 1 to 8; 1: it is upright.

    Args:
        data: the file's bytes.
        kind: its format as of ``image_format``.
    """
    read_exif = {"jpeg": jpeg_exif, "png": png_exif, "webp": webp_exif}.get(kind)
    return orientation(read_exif(data)) if read_exif else 1


def orientation(exif: bytes) -> int:
    """The orientation in EXIF data, 1 to 8; 1 where it is missing or broken."""
    tiff = exif.removeprefix(b"Exif\0\0") + bytes(8)
    if tiff[:4] not in (b"II*\0", b"MM\0*"):
        return 1
    order = "<" if tiff[:1] == b"I" else ">"
    at = min(max(integers(tiff, 4, order + "i")[0], 0), len(tiff) - 2)
    num_entries = min(integers(tiff, at, order + "H")[0], (len(tiff) - at - 2) // 12)
    found = 0
    for number in range(num_entries):  # tag, type, two words of count, two of value
        tag, kind, *_, first, second = integers(tiff, at + 2 + 12 * number, order + "6H")
        if tag == 274 and kind in (3, 4):  # short, long
            found = max(found, first if kind == 3 or order == "<" else second)
    return found if 1 <= found <= 8 else 1
