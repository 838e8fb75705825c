"""When and with which camera a photograph was taken, by its EXIF data.

camera, taken = capture_of(PIL.Image.open("a.jpg"))       # "Canon EOS 80D", 1704190210.25
"""

from __future__ import annotations

from typing import Any

from tf_image_classification.inspection.frame_names import seconds_of_exif

Capture = tuple[str, float | None]
"""Make, model and serial number of the camera, or ""; seconds since an epoch, or None."""

NO_CAPTURE: Capture = "", None

_EXIF, _MAKE, _MODEL = 0x8769, 271, 272
_TAKEN, _FRACTION, _SERIAL = 0x9003, 0x9291, 0xA431


def capture_of(image: Any) -> Capture:
    """Camera and time of an open image of Pillow, without decoding it."""
    try:
        main = image.getexif()
        own = main.get_ifd(_EXIF) if main else {}
        parts = (main.get(_MAKE, ""), main.get(_MODEL, ""), own.get(_SERIAL, ""))
        camera = " ".join(text for part in parts if (text := str(part).strip("\0 ")))
        return camera, seconds_of_exif(str(own.get(_TAKEN, "")), str(own.get(_FRACTION, "")))
    except Exception:  # damaged EXIF data
        return NO_CAPTURE
