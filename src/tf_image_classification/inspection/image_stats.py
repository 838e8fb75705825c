"""Statistics of one image, computed in any process.

stats = measure_image(row)
stats.problem, stats.width, stats.brightness
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import io
import math
import warnings
from collections.abc import Mapping
from typing import Any

import google_crc32c
import numpy as np
import numpy.typing as npt

from tf_image_classification.config import (
    DEFAULT_MAX_PIXELS,
    FEWEST_LEVELS,
    FULL_RANGE,
    PixelRange,
    num_levels,
    range_of_values,
)
from tf_image_classification.dataset.readers import Place, Row, Value
from tf_image_classification.errors import TficError
from tf_image_classification.inspection.captures import NO_CAPTURE, Capture, capture_of

SMALL_SIDE = 32
"""Side of the small image used to compare pairs, in pixels."""

_HASH_KEPT = 8  # frequencies in each direction
_MAX_FLAT = 3  # of 0-255: range of a channel of one colour after JPEG compression
_MAX_SAMPLED = 192  # pixels of the longer side that statistics use
_SPECTRUM_SIDE = 160
_MIN_LEVEL = 0.03  # of the power that a photograph would have at a frequency
_MIN_TAIL = 0.04  # of the rows: a flat end that long is not by chance
_ENDINGS = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "MPO": (".jpg", ".jpeg", ".mpo"),
    "PNG": (".png", ".apng"),
    "GIF": (".gif",),
    "BMP": (".bmp", ".dib"),
    "WEBP": (".webp",),
    "PPM": (".ppm", ".pgm"),
}


@dataclasses.dataclass(frozen=True)
class ImageStats:
    """Statistics of one image; 0 where it cannot be decoded.

    Attributes:
        key: its name.
        where: its file, line or record.
        columns: its values in the source's columns.
        place: location of its bytes.
        problem: why it cannot be used, or "".
        format: Pillow's name of the format, or "".
        traits: unusual properties, e.g. "animated"; see ``checks``.
        width: in pixels, upright.
        height: in pixels.
        num_bytes: of the file.
        digest: SHA-256 of the bytes, hexadecimal.
        pixels: CRC-32C of the decoded pixels.
        png16: min and max value of a 16-bit PNG; () for all others.
        hashes: two perceptual hashes of 64 bits; the second one is robust to exposure.
        small: the image in grey, SMALL_SIDE x SMALL_SIDE bytes.
        brightness: mean of the grey values, 0-255.
        contrast: standard deviation of the grey values.
        sharpness: logarithm of the variance of the second differences.
        saturation: mean distance of the colours from grey, 0-255.
        detail: fraction of the resolution with content, 0-1: about 0.5 for a photograph that was
            upscaled by 3.
        camera: make, model and serial number by EXIF, or "".
        taken: seconds since an epoch by EXIF, or None.
    """

    key: str
    where: str
    columns: Mapping[str, Value]
    place: Place | None = None
    problem: str = ""
    format: str = ""
    traits: tuple[str, ...] = ()
    width: int = 0
    height: int = 0
    num_bytes: int = 0
    digest: str = ""
    pixels: int = 0
    png16: tuple[int, ...] = ()
    hashes: tuple[int, int] = (0, 0)
    small: bytes = b""
    brightness: float = 0.0
    contrast: float = 0.0
    sharpness: float = 0.0
    saturation: float = 0.0
    detail: float = 1.0
    camera: str = ""
    taken: float | None = None


def measure_image(row: Row, max_pixels: int = DEFAULT_MAX_PIXELS) -> ImageStats:
    """Statistics of one image; one that cannot be decoded has a ``problem`` and raises nothing."""
    from tf_image_classification.dataset.image.decode import decode_png16, decoder
    from tf_image_classification.dataset.image.diagnose import explain_failure, image_format

    start = ImageStats(row.key, row.where or row.key, row.columns, row.place)
    try:
        data = row.place.read()
    except (OSError, TficError, ValueError) as error:
        return dataclasses.replace(start, problem=f"cannot be read: {error}")
    if not isinstance(data, bytes):
        return _measured(start, _coloured(data))
    digest = hashlib.sha256(data).hexdigest()
    start = dataclasses.replace(start, num_bytes=len(data), digest=digest)
    import tensorflow as tf  # late, in each process

    try:
        image = decoder(max_pixels)(tf.constant(data)).numpy()
    except tf.errors.InvalidArgumentError:
        problem = explain_failure(data, max_pixels=max_pixels)
        kind = image_format(data)
        named = "" if kind == "unknown" else kind.upper()
        return dataclasses.replace(start, problem=problem, format=named)
    # Only now: Pillow allocates what a header declares, however much that is.
    name, traits, (camera, taken) = _header(data)
    ending = row.place.path.lower() if row.place.kind == "file" else ""
    expected = _ENDINGS.get(name, ())
    if ending and expected and not ending.endswith(expected):
        traits += ("wrong ending",)
    start = dataclasses.replace(start, format=name, traits=traits, camera=camera, taken=taken)
    if name == "PNG" and data[24:25] == b"\x10":
        values = decode_png16(data, max_pixels=max_pixels).numpy()
        traits, png16 = (*traits, "16 bits"), (int(values.min()), int(values.max()))
        start = dataclasses.replace(start, traits=traits, png16=png16)
        if _shown_range(png16[1]) != FULL_RANGE:
            image = decode_measured(start, max_pixels)
    found = _measured(start, image)
    if name in ("JPEG", "MPO") and _has_flat_end(image):
        found = dataclasses.replace(found, traits=(*found.traits, "flat end"))
    return found


def decode_measured(
    stats: ImageStats, max_pixels: int = DEFAULT_MAX_PIXELS
) -> npt.NDArray[np.uint8]:
    """Pixels of a usable image as they were measured, uint8 [H, W, 3]; the file is read again."""
    from tf_image_classification.dataset.image.decode import decode_image

    assert stats.place is not None and not stats.problem
    data = stats.place.read()
    if not isinstance(data, bytes):
        return _coloured(data)
    png16_range = _shown_range(stats.png16[1]) if stats.png16 else FULL_RANGE
    image: npt.NDArray[np.uint8] = decode_image(
        data, max_pixels=max_pixels, png16_range=png16_range
    ).numpy()
    return image


def _coloured(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    return pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=-1)


def _shown_range(highest: int) -> PixelRange:
    """The range for one 16-bit PNG: its own where it would be nearly black otherwise.

    So an image of a 12-bit camera is compared and shown as it looks.
    """
    is_black = num_levels(0, highest) < FEWEST_LEVELS
    return range_of_values(0, highest) if is_black and highest else FULL_RANGE


def _header(data: bytes) -> tuple[str, tuple[str, ...], Capture]:
    """Name of the format, unusual properties, camera and time, without decoding pixels."""
    from PIL import Image

    traits = []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about large images and broken EXIF data
            with Image.open(io.BytesIO(data)) as image:
                if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
                    traits.append("animated")
                if image.mode == "CMYK":
                    traits.append("CMYK")
                if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
                    traits.append("transparent")
                if image.getexif().get(274, 1) not in (0, 1):
                    traits.append("turned by EXIF")
                return str(image.format), tuple(traits), capture_of(image)
    except Exception:  # whatever Pillow stumbles over; our decoder has the last word
        return "", (), NO_CAPTURE


def _measured(stats: ImageStats, image: npt.NDArray[np.uint8]) -> ImageStats:
    from PIL import Image

    height, width = image.shape[:2]
    step = max(1, -(-max(height, width) // _MAX_SAMPLED))
    pixels = np.ascontiguousarray(image).view("V3")  # copied three bytes at once
    sampled = pixels[::step, ::step].copy().view(np.uint8)
    in_grey = Image.fromarray(sampled).convert("L")
    grey = np.asarray(in_grey, np.float32)
    every = 2 if min(grey.shape) >= 64 else 1  # of many, a quarter has nearly the same mean
    fewer = np.ascontiguousarray(grey[::every, ::every])
    rows, columns = np.diff(grey[:, ::every], 2, axis=0), np.diff(grey[::every], 2, axis=1)
    num_second = rows.size + columns.size
    variance = (float(np.vdot(rows, rows)) + float(np.vdot(columns, columns))) / max(1, num_second)
    small = np.asarray(in_grey.resize((SMALL_SIDE, SMALL_SIDE), Image.Resampling.BOX))
    colours = sampled[:: 2 * every, :: 2 * every].astype(np.float32)
    contrast = float(fewer.std())
    if contrast <= _MAX_FLAT and _is_of_one_colour(image):
        stats = dataclasses.replace(stats, traits=(*stats.traits, "one colour"))
    return dataclasses.replace(
        stats,
        width=int(width),
        height=int(height),
        pixels=google_crc32c.value(image.tobytes()),
        hashes=perceptual_hashes(small),
        small=small.tobytes(),
        brightness=float(fewer.mean()),
        contrast=contrast,
        sharpness=float(np.log1p(variance)),
        saturation=float(np.abs(colours - fewer[::2, ::2, None]).mean()),
        detail=_detail(image),
    )


def _is_of_one_colour(image: npt.NDArray[np.uint8]) -> bool:
    ranges = np.ptp(image.reshape(-1, image.shape[-1]), axis=0)
    return bool((ranges <= _MAX_FLAT).all())


def perceptual_hashes(small: npt.NDArray[np.uint8]) -> tuple[int, int]:
    """Two perceptual hashes of 63 bits of a small grey image; the second one is robust to exposure.

    Args:
        small: uint8 [SMALL_SIDE, SMALL_SIDE].
    """
    return _perceptual_hash(small), _perceptual_hash(_equalised(small))


def _equalised(grey: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """A grey image with each value replaced by the fraction of darker pixels."""
    counts = np.bincount(grey.ravel(), minlength=256)
    darker: npt.NDArray[np.float64] = (np.cumsum(counts) - counts / 2) / grey.size
    return darker[grey]


def _perceptual_hash(grey: npt.NDArray[Any]) -> int:
    """Signs of the lowest frequencies against their median (Zauner's pHash, 2010)."""
    from scipy.fft import dctn

    low = np.asarray(dctn(grey.astype(np.float32), norm="ortho"))[:_HASH_KEPT, :_HASH_KEPT].ravel()
    median = len(low) // 2 - 1  # of all but the first, which is the brightness
    bits = low > np.partition(low[1:], median)[median]
    bits[0] = False
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def _has_flat_end(image: npt.NDArray[np.uint8]) -> bool:
    """Whether the last rows have a single colour, as in a truncated file.

    White, black and images that are flat everywhere do not count.
    """
    last = image[-1, -1]
    if (image[-1] != last).any():  # nearly always
        return False
    num_rows = max(8, math.ceil(_MIN_TAIL * len(image)))
    is_plain = bool(last.min() > 245 or last.max() < 10)
    if is_plain or len(image) <= num_rows or (image[-num_rows:] != last).any():
        return False
    return bool((image[:-num_rows] != last).any())


def _detail(image: npt.NDArray[np.uint8]) -> float:
    """Fraction of the resolution used: up to where the spectrum of the centre has energy."""
    height, width = image.shape[:2]
    side = min(_SPECTRUM_SIDE, height, width)
    if side < 64:
        return 1.0
    top, left = (height - side) // 2, (width - side) // 2
    part = image[top : top + side, left : left + side, 1].astype(np.float32)
    part -= part.mean()
    part *= _window(side)
    from scipy.fft import rfft2  # late, and in single precision, which numpy's is not

    spectrum = rfft2(part)
    power = spectrum.real**2 + spectrum.imag**2
    bands, counts, edges = _bands(side)
    # The power of photographs falls with the square of the frequency; that of upscaled or blurred
    # images falls off much faster beyond their own resolution.
    level = np.bincount(bands, power.ravel(), 34)[1:33] / counts * edges[1:] ** 2
    usual = np.median(level[2:8])
    if usual <= 0:
        return 1.0
    return float(edges[1:][level >= _MIN_LEVEL * usual].max() / 0.5)


@functools.lru_cache(maxsize=16)
def _window(side: int) -> npt.NDArray[np.float32]:
    return (np.hanning(side)[:, None] * np.hanning(side)).astype(np.float32)


@functools.lru_cache(maxsize=16)
def _bands(side: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]:
    """Band of each frequency of a spectrum, number of frequencies by band, and the bands' edges."""
    edges = np.linspace(0, 0.5, 33)
    rows = np.abs(np.fft.fftfreq(side))[:, None]
    bands = np.digitize(np.hypot(rows, np.fft.rfftfreq(side)[None, :]).ravel(), edges)
    return bands, np.maximum(np.bincount(bands, minlength=34)[1:33], 1), edges
