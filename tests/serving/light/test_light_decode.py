"""Without TensorFlow images have the same pixels, and the same files are rejected.

``dataset.image.test_decode`` decodes each of its files both ways too.
"""

import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dataset.image.test_decode import encoded, exif_bytes, picture, png_chunk
from dataset.mutants import HEAVY, KINDS, LIMIT, mutant, undamaged
from tf_image_classification.config import FULL_RANGE
from tf_image_classification.dataset.image.decode import decoder
from tf_image_classification.dataset.image.diagnose import explain_failure
from tf_image_classification.errors import BadImageError
from tf_image_classification.serving.light.decode import decode

SHARED = Path(__file__).resolve().parents[3].parent / "shared"
_PASSES = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2))


def with_tensorflow(data, png16_range=FULL_RANGE):
    """The pixels, or None for a rejected file."""
    try:
        return decoder(LIMIT, png16_range)(tf.constant(data)).numpy()
    except tf.errors.InvalidArgumentError:
        return None


def without_tensorflow(data, png16_range=FULL_RANGE):
    try:
        return decode(data, max_pixels=LIMIT, png16_range=png16_range)
    except BadImageError as error:
        assert str(error) == explain_failure(data, max_pixels=LIMIT)
        return None


def is_same(data, **options):
    """Whether both ways give the same pixels or reject the file."""
    expected, found = with_tensorflow(data, **options), without_tensorflow(data, **options)
    if expected is None or found is None:
        return expected is None and found is None
    return found.dtype == np.uint8 and np.array_equal(expected, found)


def check_mutants(kind, numbers):
    """All the same but for two kinds of damage inside the compressed pixels.

    TensorFlow's GIF decoder accepts impossible codes, Pillow's rejects them. For a progressive
    JPEG that lacks scans, versions of libjpeg smooth differently.
    """
    for number in numbers:
        data = mutant(kind, number)
        if is_same(data):
            continue
        expected, found = with_tensorflow(data), without_tensorflow(data)
        if kind == "gif":
            assert expected is not None and found is None, number
        else:
            assert kind == "jpeg" and b"\xff\xc2" in data, (kind, number)
            assert expected.shape == found.shape, number


@pytest.mark.parametrize("kind", KINDS)
def test_undamaged_files_and_some_damaged_ones_are_decoded_alike(kind):
    assert all(is_same(data) for data in undamaged(kind))
    check_mutants(kind, range(30))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_many_damaged_files_are_decoded_alike(kind):
    check_mutants(kind, range(30, 280))


@pytest.mark.slow
@pytest.mark.parametrize("name", HEAVY)
def test_harmful_files_are_rejected_alike(name):
    expected, make = HEAVY[name]
    data = make()
    assert (without_tensorflow(data) is None) == (with_tensorflow(data) is None)
    assert expected == "either" or without_tensorflow(data) is None


def _interlaced(values, bits, colour):
    """A PNG in seven passes, without filters, of big-endian rows: uint8 [h, w, bytes a pixel]."""
    rows = b""
    for top, left, down, right in (*_PASSES, (1, 0, 2, 1)):
        part = values[top::down, left::right]
        if part.size:
            if bits < 8:
                digits = np.unpackbits(part[..., 0, None], axis=-1)[..., -bits:]
                part = np.packbits(digits.reshape(len(part), -1), axis=1)
            rows += b"".join(b"\0" + row.tobytes() for row in part)
    height, width = values.shape[:2]
    header = struct.pack(">2I5B", width, height, bits, colour, 0, 0, 1)
    parts = [(b"IHDR", header), (b"PLTE", bytes(range(48))), (b"IDAT", zlib.compress(rows))]
    parts = parts if colour == 3 else [parts[0], parts[2]]
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*part) for part in (*parts, (b"IEND", b"")))


@pytest.mark.parametrize("bits, colour", [(1, 0), (2, 0), (4, 3), (8, 2), (8, 6), (16, 0), (16, 2)])
def test_interlaced_pngs_of_all_small_sizes_are_decoded_alike(bits, colour):
    num_bytes = max(bits // 8, 1) * {0: 1, 2: 3, 3: 1, 6: 4}[colour]
    random = np.random.default_rng(bits)
    for height, width in [(1, 1), (1, 5), (2, 3), (5, 1), (7, 9), (8, 8), (13, 17)]:
        values = random.integers(0, 2 ** min(bits, 8), (height, width, num_bytes), dtype=np.uint8)
        data = _interlaced(values, bits, colour)
        assert with_tensorflow(data) is not None
        assert is_same(data), (height, width)
        assert is_same(data[:-20]) and without_tensorflow(data[:-20]) is None


@pytest.mark.slow_after(4)  # each range is traced anew
@pytest.mark.exhaustive_after(9)
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("png16_range", [(0, 4095), (300, 301), (17, 60_000)])
def test_values_of_16_bits_are_scaled_alike(channels, png16_range):
    values = np.random.default_rng(channels).integers(0, 65536, (40, 50, channels), np.uint16)
    values[:20] %= 4200
    data = tf.io.encode_png(values).numpy()
    assert is_same(data, png16_range=png16_range)
    assert is_same(encoded(picture(), "PNG"), png16_range=png16_range)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@given(
    mode=st.sampled_from(["L", "RGB", "RGBA", "CMYK", "P", "1", "LA"]),
    width=st.integers(1, 80),
    height=st.integers(1, 80),
    orientation=st.integers(0, 9),
    order=st.sampled_from(["II", "MM"]),
    options=st.fixed_dictionaries(
        {},
        optional={
            "quality": st.integers(1, 98),
            "subsampling": st.integers(0, 2),
            "progressive": st.booleans(),
            "optimize": st.booleans(),
            "restart_marker_blocks": st.integers(1, 9),
        },
    ),
)
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_size_mode_and_orientation_is_decoded_alike(
    kind, mode, width, height, orientation, order, options
):
    modes = {"JPEG": ("L", "RGB", "CMYK", "1"), "WEBP": ("RGB", "RGBA")}.get(kind)
    mode = "RGBA" if kind == "PNG" and mode == "CMYK" else mode
    mode = mode if modes is None or mode in modes else "RGB"
    image = picture(mode, width, height, seed=width)
    data = encoded(image, kind, exif=exif_bytes(orientation, order=order), **options)
    assert with_tensorflow(data) is not None
    assert is_same(data)


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.is_dir(), reason="without a folder of further images")
def test_all_files_at_hand_are_decoded_alike():
    paths = [path for name in ("data", "cases") for path in sorted((SHARED / name).rglob("*"))]
    images = [p for p in paths if p.is_file() and b"\0" in p.read_bytes()[:4096]][:700]
    assert len(images) > 100
    for path in images:
        assert is_same(path.read_bytes()), path


_IMPORTS = """
import sys
from tf_image_classification.serving.light import preprocess
heavy = {"tensorflow", "keras", "scipy", "matplotlib", "pyarrow", "sklearn"}
loaded = heavy & {name.partition(".")[0] for name in sys.modules}
assert not loaded, loaded
image = preprocess.LightPreprocessing(image_size=2).prepare(b"P5 1 1 255 a")
assert image.tolist() == [[[97.0] * 3] * 2] * 2
loaded = heavy & {name.partition(".")[0] for name in sys.modules}
assert not loaded, loaded
"""


def test_one_image_is_prepared_without_tensorflow_and_scipy():
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    subprocess.run([sys.executable, "-c", _IMPORTS], env=environment, check=True)
