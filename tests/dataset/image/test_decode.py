import csv
import gc
import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from tf_image_classification.dataset.image.decode import decode_image, decoder
from tf_image_classification.dataset.image.diagnose import explain_bad_image, image_format
from tf_image_classification.errors import BadImageError
from tf_image_classification.serving.light import decode as light

LIMIT = 1_000_000
AWKWARD = Path(__file__).resolve().parents[3].parent / "shared" / "data" / "awkward_images"
WIDTH, HEIGHT = 45, 31


def decode(data, max_pixels=LIMIT):
    """The pixels, which are the same without TensorFlow, or the error in both cases."""
    try:
        found = decode_image(tf.constant(data), max_pixels=max_pixels).numpy()
    except tf.errors.InvalidArgumentError:
        with pytest.raises(BadImageError):
            light.decode(data, max_pixels=max_pixels)
        raise
    np.testing.assert_array_equal(light.decode(data, max_pixels=max_pixels), found)
    return found


@pytest.fixture(scope="module")
def traced_decode():
    return tf.function(
        lambda data: decode_image(data, max_pixels=LIMIT),
        input_signature=[tf.TensorSpec([], tf.string)],
    )


def pillow(data):
    """What Pillow sees: first frame, upright, RGB without alpha."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))


def assert_close(found, expected, tolerance):
    assert found.dtype == np.uint8
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected.astype(int)).max() <= tolerance


def assert_refused(data, *words, max_pixels=LIMIT):
    with pytest.raises(tf.errors.InvalidArgumentError):
        decode(data, max_pixels)
    reason = explain_bad_image(data, max_pixels=max_pixels)
    for word in words:
        assert word in reason


# Files made here -----------------------------------------------------------------------------


def picture(mode="RGB", width=WIDTH, height=HEIGHT, seed=0):
    """Smooth colours, different in every corner, with alpha from 0 to 255."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 5, 4), dtype=np.uint8)
    image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    return image if mode == "RGBA" else image.convert("RGB").convert(mode)


def encoded(image, kind, **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def exif_bytes(value, *, order="II", kind="H", tag=0x0112, name=b"Exif\0\0"):
    """EXIF data whose first directory holds two other entries and the orientation."""
    mark = {"II": "<", "MM": ">"}[order]
    entries = [
        struct.pack(mark + "HHIHH", 0x0100, 3, 1, 6, 0),
        struct.pack(mark + "HHII", 0x0111, 4, 1, 6),
        struct.pack(mark + "HHI", tag, {"H": 3, "I": 4}[kind], 1)
        + struct.pack(mark + kind, value).ljust(4, b"\0"),
    ]
    head = order.encode() + struct.pack(mark + "HIH", 42, 8, len(entries))
    return name + head + b"".join(entries) + b"\0" * 4


def jpeg_segment(marker, content):
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def png_chunk(name, content):
    return (
        struct.pack(">I", len(content))
        + name
        + content
        + struct.pack(">I", zlib.crc32(name + content))
    )


def bmp(width, height, bits, rows, *, palette=b"", compression=0, header_extra=b""):
    pixels_at = 54 + len(header_extra) + len(palette)
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, compression, 0, 0, 0, 0, 0)
    start = b"BM" + struct.pack("<IHHI", pixels_at + len(rows), 0, 0, pixels_at)
    return start + header + header_extra + palette + rows


def gif_frame(left, top, width, height, body):
    return b"," + struct.pack("<HHHHB", left, top, width, height, 0) + body


JPEG = encoded(picture(), "JPEG", quality=90)
PNG = encoded(picture(), "PNG")
GIF = encoded(picture("P"), "GIF", interlace=0)
BMP = encoded(picture(), "BMP")
WEBP = encoded(picture(), "WEBP", lossless=True)
PPM = encoded(picture(), "PPM")
PLAIN = {"jpeg": JPEG, "png": PNG, "gif": GIF, "bmp": BMP, "webp": WEBP, "ppm": PPM}

_OTHER_FRAME = [picture("RGBA", seed=1)]
FILES = {
    "jpeg rgb": (JPEG, 0),
    "jpeg rgb without chroma subsampling": (encoded(picture(), "JPEG", subsampling=0), 0),
    "jpeg progressive": (encoded(picture(), "JPEG", progressive=True), 0),
    "jpeg grey": (encoded(picture("L"), "JPEG"), 0),
    "jpeg cmyk": (encoded(picture("CMYK"), "JPEG", quality=95), 2),
    "png rgb": (PNG, 0),
    "png rgb one pixel": (encoded(picture(width=1, height=1), "PNG"), 0),
    "png rgba": (encoded(picture("RGBA"), "PNG"), 0),
    "png grey": (encoded(picture("L"), "PNG"), 0),
    "png grey with alpha": (encoded(picture("LA"), "PNG"), 0),
    "png palette": (encoded(picture("P"), "PNG"), 0),
    "png palette with transparency": (encoded(picture("P"), "PNG", transparency=3), 0),
    "png palette of four bits": (encoded(picture("P").quantize(11), "PNG"), 0),
    "png 1 bit": (encoded(picture("1"), "PNG"), 0),
    "gif palette": (GIF, 0),
    "gif grey": (encoded(picture("L"), "GIF"), 0),
    "gif 1 bit": (encoded(picture("1"), "GIF"), 0),
    "gif animated": (
        encoded(picture("P"), "GIF", save_all=True, append_images=[picture("P", seed=1)]),
        0,
    ),
    "gif with a long comment": (encoded(picture("P"), "GIF", comment=b"x" * 3000), 0),
    "gif with many full blocks": (encoded(picture("P", 300, 200), "GIF"), 0),
    "bmp rgb": (BMP, 0),
    "bmp rgba": (encoded(picture("RGBA"), "BMP"), 0),
    "bmp grey": (encoded(picture("L"), "BMP"), 0),
    "bmp palette": (encoded(picture("P"), "BMP"), 0),
    "bmp 1 bit": (encoded(picture("1"), "BMP"), 0),
    "ppm rgb": (PPM, 0),
    "ppm grey": (encoded(picture("L"), "PPM"), 0),
    "ppm with comments": (b"P6 # by hand\n#\n45\t31\n# the most\n255\n" + PPM[-45 * 31 * 3 :], 0),
    "ppm with a comment in Latin-1": (
        b"P6\n# caf\xe9 \xfc, 9 x 9, 255\n45 31\n#\xff\n255\n" + PPM[-45 * 31 * 3 :],
        0,
    ),
    "webp lossy": (encoded(picture(), "WEBP", quality=80), 1),
    "webp lossless": (WEBP, 0),
    "webp lossy with alpha": (encoded(picture("RGBA"), "WEBP", quality=80), 1),
    "webp lossless with alpha": (encoded(picture("RGBA"), "WEBP", lossless=True, exact=True), 0),
    "webp animated": (
        encoded(picture("RGBA"), "WEBP", lossless=True, save_all=True, append_images=_OTHER_FRAME),
        0,
    ),
}


@pytest.mark.slow_after(8)
@pytest.mark.parametrize("name", FILES)
def test_every_format_and_mode_gives_the_pixels_that_pillow_gives(name):
    data, tolerance = FILES[name]
    assert_close(decode(data), pillow(data), tolerance)
    assert image_format(data) == name.split()[0]
    assert explain_bad_image(data, max_pixels=LIMIT) is None


def test_eager_tf_data_and_map_fn_give_the_same():
    files = [data for data, _ in FILES.values()]
    files += [
        turned(kind, orientation) for kind in ("JPEG", "PNG", "WEBP") for orientation in (3, 6)
    ]

    def both_ways(data):
        pair = tf.map_fn(
            lambda one: decode_image(one, max_pixels=LIMIT),
            tf.stack([data, data]),
            fn_output_signature=tf.TensorSpec([None, None, 3], tf.uint8),
        )
        return decode_image(data, max_pixels=LIMIT), pair

    images = tf.data.Dataset.from_tensor_slices(files).map(both_ways)
    gc.collect()
    assert images.element_spec[0].shape.as_list() == [None, None, 3]
    for data, (single, pair) in zip(files, images, strict=True):
        expected = decode(data)
        np.testing.assert_array_equal(single, expected)
        np.testing.assert_array_equal(pair, [expected, expected])


@pytest.mark.slow
def test_an_exported_model_decodes_as_the_eager_call(tmp_path, traced_decode):
    module = tf.Module()
    module.decode = traced_decode
    tf.saved_model.save(module, str(tmp_path))
    loaded = tf.saved_model.load(str(tmp_path))
    for data in (*PLAIN.values(), turned("JPEG", 6)):
        np.testing.assert_array_equal(loaded.decode(tf.constant(data)), decode(data))


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_sixteen_bit_png_is_scaled_and_not_clipped(channels):
    values = np.random.default_rng(0).integers(0, 65536, (9, 8, channels)).astype(np.uint16)
    found = decode(tf.io.encode_png(values).numpy())
    scaled = np.round(values[..., :3] / 257).astype(np.uint8)
    assert_close(found, np.broadcast_to(scaled, found.shape), 1)


# GIF and BMP beyond what Pillow writes -------------------------------------------------------


def test_a_gif_frame_smaller_than_its_canvas_stands_at_its_place():
    header, body = _gif_parts()
    frame = decode(GIF)
    canvas = header[:6] + struct.pack("<HH", WIDTH + 9, HEIGHT + 8) + header[10:]
    found = decode(canvas + gif_frame(4, 5, WIDTH, HEIGHT, body) + b";")
    assert found.shape == (HEIGHT + 8, WIDTH + 9, 3)
    np.testing.assert_array_equal(found[5 : 5 + HEIGHT, 4 : 4 + WIDTH], frame)
    assert found.sum() == frame.sum()


def test_a_gif_frame_beyond_its_canvas_is_kept_whole():
    header, body = _gif_parts()
    canvas = header[:6] + struct.pack("<HH", 1, 1) + header[10:]
    found = decode(canvas + gif_frame(0, 0, WIDTH, HEIGHT, body) + b";")
    np.testing.assert_array_equal(found, decode(GIF))


def test_later_frames_of_a_gif_are_not_read():
    bomb = GIF[:-1] + gif_frame(0, 0, 65535, 65535, b"\x08" + b"\xff" + bytes(255))
    np.testing.assert_array_equal(decode(bomb), decode(GIF))


def test_a_gif_frame_too_large_is_refused_although_the_canvas_is_small():
    header, body = _gif_parts()
    data = header + gif_frame(0, 0, 65535, 65535, body) + b";"
    assert_refused(data, "65535 x 65535 = 4,294,836,225 pixels, more than max_image_pixels")


@pytest.mark.slow
def test_a_gif_of_countless_blocks_is_refused_and_not_walked_to_its_end():
    header, body = _gif_parts()
    rest = gif_frame(0, 0, WIDTH, HEIGHT, body) + b";"
    comment = b"!\xfe" + b"\x01a" * 300 + b"\0"
    traced = decoder(LIMIT)
    few, countless = (tf.constant(header + comment * count + rest) for count in (2, 10_000))
    np.testing.assert_array_equal(traced(few), decode(GIF))
    with pytest.raises(tf.errors.InvalidArgumentError):
        traced(countless)
    assert "cut short or damaged" in explain_bad_image(countless.numpy(), max_pixels=LIMIT)


def _gif_parts():
    """Header with colour table, and the coded pixels after the frame's descriptor."""
    table = 3 * 2 ** (GIF[10] % 8 + 1)
    at = 13 + table
    assert GIF[at : at + 1] == b"," and GIF[at + 9] == 0
    return GIF[:at], GIF[at + 10 : -1]


def test_bmp_rows_from_the_top_down_are_not_turned_over():
    rows = np.arange(24, dtype=np.uint8).reshape(2, 12)  # 2 rows of 4 pixels
    up, down = bmp(4, 2, 24, rows.tobytes()), bmp(4, -2, 24, rows.tobytes())
    np.testing.assert_array_equal(decode(down), rows.reshape(2, 4, 3)[..., ::-1])
    np.testing.assert_array_equal(decode(up), decode(down)[::-1])


def test_bmp_of_four_bits_uses_its_palette():
    palette = np.random.default_rng(0).integers(0, 256, (16, 4), dtype=np.uint8)
    data = bmp(5, 1, 4, bytes([0x12, 0x34, 0xF0, 0]), palette=palette.tobytes())
    np.testing.assert_array_equal(decode(data), palette[[[1, 2, 3, 4, 15]], 2::-1])
    np.testing.assert_array_equal(decode(data), pillow(data))


def test_bmp_colours_beyond_a_short_palette_are_black():
    data = bmp(2, 1, 8, bytes([1, 2, 0, 0]), palette=b"abc\0def\0")
    np.testing.assert_array_equal(decode(data), [[list(b"fed"), [0, 0, 0]]])


def test_bmp_of_32_bits_with_the_usual_masks_is_read_and_with_others_refused():
    usual = struct.pack("<III", 0xFF0000, 0xFF00, 0xFF)
    other = struct.pack("<III", 0xFF, 0xFF00, 0xFF0000)
    rows = bytes([1, 2, 3, 4])
    read = decode(bmp(1, 1, 32, rows, compression=3, header_extra=usual))
    np.testing.assert_array_equal(read, [[[3, 2, 1]]])
    assert_refused(bmp(1, 1, 32, rows, compression=3, header_extra=other), "BMP", "compressed")


@pytest.mark.parametrize("bits", [0, 2, 16, 64])
def test_bmp_of_another_depth_is_refused(bits):
    assert_refused(bmp(2, 2, bits, bytes(32)), "colour depth other than 1, 4, 8, 24 and 32")


# Orientation ---------------------------------------------------------------------------------


def turned(kind, orientation, order="II"):
    options = {"WEBP": {"lossless": True}}.get(kind, {})
    return encoded(picture(), kind, exif=exif_bytes(orientation, order=order), **options)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("order", ["II", "MM"])
def test_orientations_1_to_8_are_applied_as_pillow_does(kind, order):
    shapes = set()
    for orientation in range(1, 9):
        data = turned(kind, orientation, order)
        found = decode(data)
        np.testing.assert_array_equal(found, pillow(data))
        shapes.add(found.shape)
    assert shapes == {(HEIGHT, WIDTH, 3), (WIDTH, HEIGHT, 3)}


@pytest.mark.parametrize("order", ["II", "MM"])
def test_an_orientation_stored_as_a_long_number_is_applied(order):
    data = encoded(picture(), "JPEG", exif=exif_bytes(6, order=order, kind="I"))
    np.testing.assert_array_equal(decode(data), pillow(data))
    assert decode(data).shape == (WIDTH, HEIGHT, 3)


_SIX = exif_bytes(6)
_BROKEN_EXIF = {
    "orientation 0": exif_bytes(0),
    "orientation 9": exif_bytes(9),
    "orientation 65535": exif_bytes(65535, order="MM"),
    "another tag": exif_bytes(6, tag=0x0113),
    "no data": _SIX[:6],
    "half a header": _SIX[:10],
    "header alone": _SIX[:14],
    "half a count": _SIX[:15],
    "no entries": _SIX[:16],
    "half an entry": _SIX[:48],
    "unknown byte order": _SIX.replace(b"II", b"XX"),
    "mixed byte order": _SIX.replace(b"II", b"IM"),
    "other magic number": _SIX.replace(b"II*\0", b"II+\0"),
    "directory beyond the end": _SIX.replace(b"*\0\x08\0\0\0", b"*\0\xff\xff\0\0"),
    "directory at a negative place": _SIX.replace(b"*\0\x08\0\0\0", b"*\0\0\0\0\xff"),
    "directory at the end": _SIX.replace(b"*\0\x08\0\0\0", b"*\0\x31\0\0\0"),
    "orientation of another type": _SIX.replace(b"\x12\x01\x03", b"\x12\x01\x07"),
    "other name": _SIX.replace(b"Exif\0\0", b"Exif\0a"),
}


@pytest.mark.parametrize("case", _BROKEN_EXIF)
def test_broken_exif_means_as_stored(case):
    segment = jpeg_segment(0xE1, _BROKEN_EXIF[case])
    np.testing.assert_array_equal(decode(JPEG[:2] + segment + JPEG[2:]), decode(JPEG))


def test_entries_that_claim_to_be_more_than_there_are_still_give_the_orientation():
    many = _SIX.replace(b"\x08\0\0\0\x03\0", b"\x08\0\0\0\xff\xff")
    found = decode(JPEG[:2] + jpeg_segment(0xE1, many) + JPEG[2:])
    np.testing.assert_array_equal(found, _turned_right(decode(JPEG)))


def test_an_entry_beyond_the_end_of_its_segment_is_not_read():
    cut, rest = _SIX[:40], _SIX[40:]
    start = JPEG[:2] + struct.pack(">BBH", 0xFF, 0xE1, len(cut) + 2) + cut
    np.testing.assert_array_equal(decode(start + jpeg_segment(0xFE, rest) + JPEG[2:]), decode(JPEG))


_BEFORE_EXIF = {
    "junk": b"\0\x12junk\xff\0",
    "fill bytes": b"\xff" * 7,
    "a comment": jpeg_segment(0xFE, b"made here"),
    "an empty segment": jpeg_segment(0xED, b""),
    "a comment that speaks of Exif": jpeg_segment(0xFE, b"a comment: Exif\0\0 is missing"),
    "XMP": jpeg_segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta/>"),
    "twenty segments": jpeg_segment(0xE2, b"ICC_PROFILE\0") * 20,
    "a quantisation table": jpeg_segment(0xDB, b"\x03" + bytes(range(1, 65))),
}


@pytest.mark.parametrize("case", _BEFORE_EXIF)
def test_exif_is_found_behind_other_segments_and_junk(case):
    # The junk stands after JPEG's own first segment: TensorFlow wants a marker right at the start.
    first = 2 + 2 + struct.unpack(">H", JPEG[4:6])[0]
    data = JPEG[:first] + _BEFORE_EXIF[case] + jpeg_segment(0xE1, _SIX) + JPEG[first:]
    np.testing.assert_array_equal(decode(data), _turned_right(decode(JPEG)))


def test_exif_text_that_is_no_segment_is_not_applied():
    comment = jpeg_segment(0xFE, b"see: " + _SIX)
    np.testing.assert_array_equal(decode(JPEG[:2] + comment + JPEG[2:]), decode(JPEG))
    behind = JPEG + b"\xff\xe1" + jpeg_segment(0xE1, _SIX)
    np.testing.assert_array_equal(decode(behind), decode(JPEG))


def test_exif_of_png_counts_before_the_image_data_with_other_chunks_around():
    exif = png_chunk(b"eXIf", exif_bytes(8, name=b""))
    text = png_chunk(b"tEXt", b"Comment\0eXIf")
    before = PNG[:33] + text + text + exif + text + PNG[33:]
    after = PNG[:33] + text + PNG[33:-12] + exif + PNG[-12:]
    np.testing.assert_array_equal(decode(before), np.rot90(decode(PNG)))
    np.testing.assert_array_equal(decode(after), decode(PNG))


@pytest.mark.parametrize("extra", [b"", b"a", b"ab"])
def test_exif_of_webp_is_found_behind_chunks_of_odd_and_even_length(extra):
    data = turned("WEBP", 6)
    chunk = b"XTRA" + struct.pack("<I", len(extra)) + extra + bytes(len(extra) % 2)
    at = data.index(b"EXIF", 30)
    longer = data[:at] + chunk + data[at:]
    longer = longer[:4] + struct.pack("<I", len(longer) - 8) + longer[8:]
    np.testing.assert_array_equal(decode(longer), decode(data))
    assert decode(data).shape == (WIDTH, HEIGHT, 3)


def _turned_right(image):
    return np.rot90(image, -1)


# Size ----------------------------------------------------------------------------------------


@pytest.mark.slow_after(3)
@pytest.mark.exhaustive_after(12)
@pytest.mark.parametrize("name", FILES)
def test_the_pixel_limit_is_exact(name):
    data, _ = FILES[name]
    height, width, _ = decode(data).shape
    assert decode(data, height * width).shape == (height, width, 3)
    assert explain_bad_image(data, max_pixels=height * width) is None
    with pytest.raises(tf.errors.InvalidArgumentError, match="pixels"):
        decode(data, height * width - 1)
    reason = explain_bad_image(data, max_pixels=height * width - 1)
    pixels = f"{width} x {height} = {width * height:,} pixels"
    assert reason == f"{pixels}, more than max_image_pixels {width * height - 1:,}"


def forged_size(kind, width, height):
    """A small file whose header declares another size."""
    if kind == "png":
        header = struct.pack(">II", width, height) + PNG[24:29]
        return PNG[:8] + png_chunk(b"IHDR", header) + PNG[33:]
    if kind == "bmp":
        return BMP[:18] + struct.pack("<ii", width, height) + BMP[26:]
    if kind == "ppm":
        return b"P6 %d %d 255\n" % (width, height) + PPM[15:]
    if kind == "gif":
        at = 13 + 3 * 2 ** (GIF[10] % 8 + 1)
        return GIF[: at + 5] + struct.pack("<HH", width, height) + GIF[at + 9 :]
    at = JPEG.index(b"\xff\xc0") + 5
    return JPEG[:at] + struct.pack(">HH", height, width) + JPEG[at + 4 :]


@pytest.mark.slow_after(2)
@pytest.mark.parametrize("kind", ["jpeg", "png", "gif", "bmp", "ppm"])
def test_a_size_declared_too_large_is_refused_before_the_data_is_looked_at(kind):
    data = forged_size(kind, 20_000, 20_000)
    assert_refused(data, "20000 x 20000 = 400,000,000 pixels")
    with pytest.raises(tf.errors.InvalidArgumentError, match="pixels"):
        decode(data)


def test_inside_tf_data_too_the_error_names_the_pixels():
    data = tf.data.Dataset.from_tensors(forged_size("png", 20_000, 20_000))
    with pytest.raises(tf.errors.InvalidArgumentError, match="pixels"):
        list(data.map(lambda d: decode_image(d, max_pixels=LIMIT)))


@pytest.mark.slow_after(4)
@pytest.mark.exhaustive_after(8)
@pytest.mark.parametrize("kind", ["png", "gif", "bmp", "ppm"])
@pytest.mark.parametrize("size", [(0, HEIGHT), (WIDTH, 0), (0, 0)])
def test_an_image_without_pixels_is_refused(kind, size):
    with pytest.raises(tf.errors.InvalidArgumentError, match="pixels"):
        decode(forged_size(kind, *size))
    assert "pixels" in explain_bad_image(forged_size(kind, *size), max_pixels=LIMIT)


@pytest.mark.parametrize("size", [(2**32 - 1, 2**32 - 1), (2**31, 1), (1, 2**31), (2**31 - 1,) * 2])
def test_a_png_size_near_the_end_of_the_number_range_is_refused(size):
    assert_refused(forged_size("png", *size))


@pytest.mark.slow_after(1)
@pytest.mark.parametrize("size", [(-1, 5), (5, -(2**31)), (2**31 - 1, 1), (2**26, 1)])
def test_a_bmp_size_near_the_end_of_the_number_range_is_refused(size):
    assert_refused(forged_size("bmp", *size))
    assert_refused(forged_size("bmp", *size), max_pixels=2**40)


@pytest.mark.slow_after(1)
@pytest.mark.parametrize("size", [(99_999_999, 99_999_999), (2**31, 1), (2**26, 1)])
def test_a_ppm_size_near_the_end_of_the_number_range_is_refused(size):
    assert_refused(forged_size("ppm", *size))
    assert_refused(forged_size("ppm", *size), max_pixels=2**40)


@pytest.mark.slow_after(3)
@pytest.mark.parametrize(
    "start",
    [
        b"P6 # \xe9\n45 31\n65535\n 45 31 255 ",
        b"P6 123456789 1 255 ",
        b"P6 45 31 65535\n",
        b"P6 45 31 100\n",
        b"P6 45\n",
        b"P5 " + b" " * 300 + b"45 31 255\n",
    ],
)
def test_a_netpbm_of_another_kind_is_refused_and_said_to_be(start):
    assert_refused(start + PPM[-45 * 31 * 3 :], "Netpbm", "values other than 0 to 255")


def test_more_pixels_than_tensorflow_can_decode_are_named_whatever_the_limit():
    assert_refused(forged_size("png", 20_000, 20_000), "134,217,728", max_pixels=10**12)


# What is no image ----------------------------------------------------------------------------

_NO_IMAGES = {
    b"\n <!DOCTYPE html><html></html>": "HTML",
    b"<html><body>404": "HTML",
    b"II*\0\x08\0\0\0": "TIFF",
    b"MM\0*\0\0\0\x08": "TIFF",
    b"\0\0\0 ftypavif\0\0\0\0": "AVIF",
    b"\0\0\0\x18ftypheic\0\0\0\0": "HEIC",
    b"\0\0\0\x18ftypisom\0\0\0\0": "MP4",
    b"8BPS\0\1": "PSD",
    b"\0\0\0\x0cjP  \r\n\x87\n": "JPEG 2000",
    b"\xff\x0a\xff": "JPEG XL",
    b"P3\n1 1\n255\n1 2 3": "Netpbm",
    b"RIFF\x10\0\0\0WAVEfmt ": "WAV",
    b"version https://git-lfs.github.com/spec/v1\n": "Git LFS",
    b"PK\x03\x04": "ZIP",
    bytes(100): "zeros only",
    b"a,b,c": "a,b,c",
    b"\xff": "convert it to JPEG or PNG",
    b"G": "convert it to JPEG or PNG",
    b"GIF": "convert it to JPEG or PNG",
    b"B": "convert it to JPEG or PNG",
    b"RIFF": "AVI or WAV",
    b"\x89PNG": "convert it to JPEG or PNG",
}


@pytest.mark.slow_after(4)
@pytest.mark.parametrize("data", _NO_IMAGES)
def test_what_is_no_image_is_refused_and_named(data):
    assert image_format(data) == "unknown"
    assert_refused(data, "not an image of a known format", f"first bytes {data[:16]!r}")
    assert_refused(data, _NO_IMAGES[data])


def test_no_bytes_are_refused():
    assert_refused(b"")
    assert explain_bad_image(b"", max_pixels=LIMIT) == "0 bytes"


@pytest.mark.slow_after(3)
@pytest.mark.parametrize("kind", PLAIN)
def test_data_cut_short_is_refused_and_said_to_be(kind):
    data = PLAIN[kind]
    name = {"webp": "WebP", "ppm": "Netpbm"}.get(kind, kind.upper())
    for length in (60, len(data) // 2, len(data) - 3):
        assert_refused(data[:length], f"{name} data is cut short")


def test_a_traced_function_refuses_what_the_eager_call_refuses(traced_decode):
    cut = [data[:length] for data in PLAIN.values() for length in range(1, len(data) - 1, 97)]
    forged = [forged_size(kind, 20_000, 20_000) for kind in ("jpeg", "png", "gif", "bmp", "ppm")]
    for data in [b"", *_NO_IMAGES, *cut, *forged]:
        with pytest.raises(tf.errors.InvalidArgumentError) as caught:
            traced_decode(data)
        assert len(str(caught.value)) < 3000  # and does not show all the data


@pytest.mark.parametrize("kind", ["jpeg", "png", "gif"])
def test_bytes_behind_the_image_do_no_harm(kind):
    np.testing.assert_array_equal(decode(PLAIN[kind] + b"trailing \xff\xd8"), decode(PLAIN[kind]))


_TOUGH = [
    *PLAIN.values(),
    turned("WEBP", 3),
    turned("JPEG", 7, "MM"),
    turned("PNG", 5),
    encoded(picture("P"), "BMP"),
]


@pytest.mark.slow
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    data=st.sampled_from(_TOUGH),
    cut=st.none() | st.integers(0, 4000),
    flips=st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), max_size=4),
    early_flips=st.lists(st.tuples(st.integers(0, 60), st.integers(0, 255)), max_size=2),
)
def test_damaged_data_gives_an_image_or_the_error_and_the_same_everywhere(
    data, cut, flips, early_flips, traced_decode
):
    damaged = bytearray(data[:cut])
    for place, value in flips + early_flips:
        if damaged:
            damaged[place % len(damaged)] = value
    damaged = bytes(damaged)
    try:
        image = traced_decode(damaged).numpy()
    except tf.errors.InvalidArgumentError as error:
        assert len(str(error)) < 3000
        assert explain_bad_image(damaged, max_pixels=LIMIT)
        return
    assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3
    assert 0 < image.shape[0] * image.shape[1] <= LIMIT
    assert image_format(damaged) != "unknown"
    np.testing.assert_array_equal(decode(damaged), image)
    assert explain_bad_image(damaged, max_pixels=LIMIT) is None


# Files of the world --------------------------------------------------------------------------


def awkward_files():
    table = AWKWARD / "TABLE.tsv"
    if not table.exists():
        missing = pytest.mark.skip(reason=f"no {table}")
        return [pytest.param(None, marks=missing, id="missing")]
    with open(table, newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    for row in rows:  # the table says what TensorFlow alone can do
        if row["what it is"] == "PPM":
            row["sane behaviour"] = "decode"
    return [pytest.param(row, id=row["file"]) for row in rows]


# Pillow clips 16-bit grey, and shows what is transparent in a GIF; it refuses two files.
_NOT_AS_PILLOW = {
    "pillow/i_trns.png",
    "pillow/first_frame_transparency.gif",
    "pillow/png_decompression_dos.png",
    "pillow/unknown_compression_method.png",
}


@pytest.mark.slow_after(6)
@pytest.mark.parametrize("row", awkward_files())
def test_awkward_files_do_what_is_sane(row):
    data = (AWKWARD / row["file"]).read_bytes()
    if row["sane behaviour"].startswith("reject"):
        assert_refused(data)
        return
    image = decode(data)
    assert explain_bad_image(data, max_pixels=LIMIT) is None
    assert image.std() > 1 or row["file"] in _NOT_AS_PILLOW
    if row["file"] not in _NOT_AS_PILLOW:
        assert_close(image, pillow(data), 1)


@pytest.mark.slow
def test_the_44_awkward_files_do_the_same_traced(traced_decode):
    if not AWKWARD.exists():
        pytest.skip(f"no {AWKWARD}")
    rows = [param.values[0] for param in awkward_files()]
    assert len(rows) == 44
    for row in rows:
        data = (AWKWARD / row["file"]).read_bytes()
        if row["sane behaviour"].startswith("reject"):
            with pytest.raises(tf.errors.InvalidArgumentError):
                traced_decode(data)
        else:
            np.testing.assert_array_equal(traced_decode(data), decode(data))
