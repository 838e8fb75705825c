"""What becomes of the bytes of an image."""

import io
import struct

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tf_image_classification.conversion.images import ImageOptions, stored
from tf_image_classification.dataset.image.decode import decode_image
from tf_image_classification.errors import BadImageError, ConfigError


def test_images_are_reduced_turned_and_encoded_as_asked():
    image = Image.fromarray(
        np.arange(60 * 90 * 3, dtype=np.uint32).astype(np.uint8).reshape(60, 90, 3)
    )
    exif = Image.Exif()
    exif[274] = 6
    data = io.BytesIO()
    image.save(data, "JPEG", exif=exif.tobytes(), quality=95)
    turned = data.getvalue()
    assert stored(turned, ImageOptions()) == turned
    upright = stored(turned, ImageOptions(apply_exif=True))
    opened = Image.open(io.BytesIO(upright))
    assert opened.size == (60, 90) and opened.getexif().get(274, 1) == 1
    small = Image.open(io.BytesIO(stored(turned, ImageOptions(short_side=30))))
    assert small.size == (30, 45) and small.format == "JPEG"
    assert stored(turned, ImageOptions(short_side=60)) == turned  # nothing is enlarged
    lossless = stored(turned, ImageOptions(format="png"))
    before = decode_image(tf.constant(turned), max_pixels=10**6).numpy().astype(int)
    after = decode_image(tf.constant(lossless), max_pixels=10**6).numpy()
    assert np.abs(before - after).max() <= 2
    with pytest.raises(BadImageError, match="more than max_image_pixels"):
        stored(turned, ImageOptions(max_pixels=100))


def saved(image, kind, **options):
    data = io.BytesIO()
    image.save(data, kind, **options)
    return data.getvalue()


def awkward_images():
    ramp = np.arange(12 * 16, dtype=np.uint16).reshape(12, 16) * 300
    yield "16 bits", saved(Image.fromarray(ramp), "PNG")
    indexed = Image.fromarray((ramp // 300).astype(np.uint8)).convert("P")
    yield "transparent GIF", saved(indexed, "GIF", transparency=3)
    gif = bytearray(saved(indexed, "GIF"))
    gif[6:10] = struct.pack("<HH", 20, 30)  # the first frame is smaller than its canvas
    yield "small frame", bytes(gif)
    rgb = Image.fromarray(np.arange(12 * 16 * 3, dtype=np.uint8).reshape(12, 16, 3))
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    yield "XMP", saved(rgb, "JPEG", xmp=xmp)


@pytest.mark.slow_after(2)
@pytest.mark.parametrize(("what", "data"), list(awkward_images()))
def test_what_is_encoded_anew_has_the_pixels_that_the_training_sees(what, data):
    options = ImageOptions(format="png", apply_exif=True)
    before, after = (
        decode_image(tf.constant(one), max_pixels=10**6).numpy()
        for one in (data, stored(data, options))
    )
    assert np.array_equal(before, after)
    if what == "XMP":
        assert stored(data, ImageOptions(apply_exif=True)) == data


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "JPEG"])
def test_only_a_turned_image_is_encoded_anew_to_be_upright(kind):
    exif = Image.Exif()
    for orientation in (1, 6):
        exif[274] = orientation
        data = saved(Image.new("RGB", (16, 12), "red"), kind, exif=exif.tobytes())
        upright = stored(data, ImageOptions(apply_exif=True))
        assert (upright == data) == (orientation == 1)
        assert Image.open(io.BytesIO(upright)).size == ((16, 12) if orientation == 1 else (12, 16))


def test_grey_stays_grey_and_raw_pixels_are_reduced():
    grey = np.arange(12 * 16, dtype=np.uint8).reshape(12, 16)
    for data in (saved(Image.fromarray(grey), "PNG"), grey):
        small = Image.open(io.BytesIO(stored(data, ImageOptions(short_side=6))))
        assert small.mode == "L" and small.size == (8, 6)


@pytest.mark.parametrize("most", [255, 4095])
def test_sixteen_bits_that_would_be_stored_black_are_refused_with_the_range(most):
    values = np.random.default_rng(0).integers(most // 2, most + 1, [20, 20, 3]).astype(np.uint16)
    data = tf.io.encode_png(values).numpy()
    assert stored(data, ImageOptions()) == data  # nothing is changed, so all values are there
    with pytest.raises(BadImageError, match=rf"up to \d+, nearly black .* --png16_range 0-{most}"):
        stored(data, ImageOptions(format="jpeg"))
    scaled = stored(data, ImageOptions(format="ppm", png16_range=f"0-{most}"))
    found = np.asarray(Image.open(io.BytesIO(scaled)))
    assert np.abs(found - values * 255.0 / most).max() <= 0.51
    black = stored(data, ImageOptions(format="ppm", png16_range="full"))
    assert np.asarray(Image.open(io.BytesIO(black))).max() <= 15


def test_a_range_that_is_to_be_measured_is_refused_by_the_converter():
    with pytest.raises(ConfigError, match="known after the conversion only"):
        ImageOptions(png16_range="measured")
