"""Limits of decoding: of pixels, of a JPEG's scans, of a PNG's texts, of a GIF's blocks."""

from __future__ import annotations

TENSORFLOW_MAX_PIXELS = 2**27
"""TensorFlow refuses JPEG images of 2**29 bytes and more, counting four bytes a pixel for CMYK."""

MAX_SCAN_PIXELS = 2**31
"""Max pixels times scans of a JPEG: about 5 s at 2 ns per pixel and scan. An image of 12 megapixels
may have 178 scans; ordinary progressive images have ten."""

MAX_TEXT_CHUNKS = 16
"""Max compressed texts in a PNG. libpng unpacks each, up to 8 MB from 8 kB, and keeps it."""

SHORT_PNG_BYTES = 2**14
"""PNGs up to this length are not searched for texts, which unpack to 16 MB at most."""

MIN_SCAN_BYTES = 10
"""Bytes of a JPEG's shortest scan header."""

MAX_MARKERS = 1024
"""Max markers of a JPEG that are read before its first scan."""

MAX_CHUNKS = 1024
"""Max chunks of a PNG or WebP that are searched for EXIF data."""

MAX_GIF_STEPS = 20_000
"""Max steps along the blocks of a GIF; 0.4 s in TensorFlow."""

EXIF_SEARCHED_BYTES = 4096
"""First bytes of a JPEG in which EXIF data must begin."""
