"""Damaged images of every format, made by number, and a program that decodes them.

    mutant("webp", 17)                                  the same bytes every time
    python mutants.py progress.txt webp,jpeg 0 500      decodes 500 of each kind

The program writes a line before each file and one after it, so that whoever started it knows which
one ended it. It catches no error but the one that a decoder may raise.
"""

import functools
import hashlib
import io
import json
import os
import struct
import sys
import zlib

import numpy as np
from PIL import Image

LIMIT = 1_000_000
KINDS = ("jpeg", "png", "gif", "bmp", "webp", "ppm")
_SIZES = (0, 1, 2, 7, 63, 64, 255, 256, 1000, 1001, 32767, 32768, 65500, 65535)
_NUMBERS = (*_SIZES, 2**24 - 1, 2**24, 2**27, 2**29, 2**31 - 1, 2**31, 2**32 - 1)


# Undamaged files -------------------------------------------------------------------------------


def _picture(mode="RGB", size=(45, 31), seed=0):
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 5, 4), dtype=np.uint8)
    image = Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)
    return image if mode == "RGBA" else image.convert("RGB").convert(mode)


def _saved(image, kind, **options):
    data = io.BytesIO()
    image.save(data, kind, **options)
    return data.getvalue()


def _exif(orientation):
    exif = Image.Exif()
    exif[274] = orientation
    return exif.tobytes()


def _deep_png(channels):
    values = np.random.default_rng(1).integers(0, 2**16, (9, 8, channels)).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    header = struct.pack(">IIBBBBB", 8, 9, 16, colour, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return _joined_png(chunks)


def _animation(mode, kind, **options):
    frames = [_picture(mode, seed=seed) for seed in range(3)]
    return _saved(frames[0], kind, save_all=True, append_images=frames[1:], **options)


@functools.cache
def undamaged(kind):
    """Some sound files of a format."""
    large = _picture(size=(200, 160), seed=3)
    return {
        "jpeg": lambda: [
            _saved(_picture(), "JPEG", quality=90),
            _saved(_picture(), "JPEG", subsampling=0, exif=_exif(6)),
            _saved(_picture(), "JPEG", progressive=True),
            _saved(_picture("L"), "JPEG", progressive=True),
            _saved(_picture("L"), "JPEG"),
            _saved(_picture("CMYK"), "JPEG"),
            _saved(large, "JPEG", restart_marker_blocks=3),
            _saved(large, "JPEG", quality=40),
        ],
        "png": lambda: [
            *(_saved(_picture(mode), "PNG") for mode in ("RGB", "RGBA", "L", "LA", "P", "1")),
            _saved(_picture("P"), "PNG", transparency=3),
            _saved(_picture("P").quantize(11), "PNG", exif=_exif(8)),
            *(_deep_png(channels) for channels in (1, 2, 3, 4)),
            _saved(large, "PNG"),
            _animation("RGB", "PNG"),
        ],
        "gif": lambda: [
            _saved(_picture("P"), "GIF", interlace=0),
            _saved(_picture("P"), "GIF", interlace=1),
            _saved(_picture("L"), "GIF"),
            _saved(_picture("1"), "GIF"),
            _saved(_picture("P"), "GIF", transparency=2, comment=b"x" * 300),
            _saved(large.quantize(200), "GIF"),
            _animation("P", "GIF"),
        ],
        "bmp": lambda: [
            *(_saved(_picture(mode), "BMP") for mode in ("RGB", "RGBA", "L", "P", "1")),
            _saved(large, "BMP"),
        ],
        "webp": lambda: [
            _saved(_picture(), "WEBP", quality=80),
            _saved(_picture(), "WEBP", lossless=True),
            _saved(_picture("RGBA"), "WEBP", quality=80),
            _saved(_picture("RGBA"), "WEBP", lossless=True, exif=_exif(3)),
            _saved(large, "WEBP", quality=60, exif=_exif(6)),
            *(
                _animation(mode, "WEBP", **options)
                for mode in ("RGB", "RGBA")
                for options in ({"quality": 80}, {"lossless": True}, {"minimize_size": True})
            ),
        ],
        "ppm": lambda: [_saved(_picture(mode), "PPM") for mode in ("RGB", "L")],
    }[kind]()


# Damage ----------------------------------------------------------------------------------------


def mutant(kind, number):
    """A damaged file of a format: the same bytes for the same number."""
    random = np.random.default_rng([KINDS.index(kind), number])
    files = undamaged(kind)
    data = files[random.integers(len(files))]
    for _ in range(random.integers(1, 4)):
        if kind in _STRUCTURES and random.random() < 0.6:
            data = _STRUCTURES[kind](data, random, files)
        else:
            data = _damaged(data, random, files)
    return data


def _damaged(data, random, files):
    """A change that any file can suffer."""
    if len(data) < 4:
        return data
    data = bytearray(data)
    place = int(random.integers(min(len(data), 64) if random.random() < 0.5 else len(data)))
    match random.integers(8):
        case 0:
            data[place] = int(random.integers(256))
        case 1:
            data[place] ^= 1 << int(random.integers(8))
        case 2 | 3:
            order, code = random.choice([">", "<"]), random.choice(["H", "I"])
            value = int(random.choice(_NUMBERS)) % 2 ** (8 * struct.calcsize(code))
            number = struct.pack(order + code, value)
            data[place : place + len(number)] = number
        case 4:
            del data[place:]
        case 5:
            del data[place : place + int(random.integers(1, 40))]
        case 6:
            part = data[place : place + int(random.integers(1, 400))]
            data[place:place] = part * int(random.integers(1, 4))
        case 7:
            other = files[random.integers(len(files))]
            data[place:] = other[int(random.integers(len(other))) :]
    return bytes(data)


def _changed(content, random, files):
    """A part's content with one change that keeps most of it."""
    if not content or random.random() < 0.3:
        return content + random.bytes(int(random.integers(1, 30)))
    return _damaged(content, random, files)


def _with_other_parts(parts, random):
    """Parts of a file left out, doubled or exchanged."""
    parts = list(parts)
    place = int(random.integers(len(parts)))
    match random.integers(3):
        case 0:
            del parts[place]
        case 1:
            parts[place:place] = [parts[place]] * int(random.integers(1, 4))
        case 2:
            other = int(random.integers(len(parts)))
            parts[place], parts[other] = parts[other], parts[place]
    return parts


def _of_png(data, random, files):
    """Changed chunks with right checksums, so that libpng looks at their content."""
    chunks, at = [], 8
    while at + 12 <= len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    if not chunks:
        return data
    place = int(random.integers(len(chunks)))
    name, content = chunks[place]
    match random.integers(5):
        case 0 | 1 if len(chunks[0][1]) == 13:  # the header
            fields = list(struct.unpack(">IIBBBBB", chunks[0][1]))
            field = int(random.choice([0, 1, 2, 3, 3, 6, 6]))
            choices = {0: _SIZES, 1: _SIZES, 2: (1, 2, 4, 8, 16, 3), 3: (0, 2, 3, 4, 6, 5)}
            fields[field] = int(random.choice(choices.get(field, (0, 1, 2))))
            chunks[0] = (chunks[0][0], struct.pack(">IIBBBBB", *fields))
        case 2:
            chunks = _with_other_parts(chunks, random)
        case 3 if name == b"IDAT":
            try:
                pixels = zlib.decompress(content)
            except zlib.error:
                pixels = b""
            chunks[place] = (name, zlib.compress(_changed(pixels, random, files)))
        case _:
            chunks[place] = (name, _changed(content, random, files))
    return _joined_png(chunks)


def _joined_png(chunks):
    parts = [b"\x89PNG\r\n\x1a\n"]
    for name, content in chunks:
        parts += [struct.pack(">I", len(content)), name, content]
        parts += [struct.pack(">I", zlib.crc32(name + content))]
    return b"".join(parts)


def _of_jpeg(data, random, files):
    """Changed segments with right lengths, or a changed scan before the end marker."""
    segments, at = [], 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != 0xDA:
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        segments.append((data[at + 1], data[at + 4 : at + 2 + length]))
        at += 2 + length
    scan = data[at:]
    if not segments:
        return data
    place = int(random.integers(len(segments)))
    marker, content = segments[place]
    match random.integers(7):
        case 0 | 1:
            frames = [i for i, (mark, _) in enumerate(segments) if 0xC0 <= mark <= 0xCF]
            place = int(random.choice(frames or [place]))
            marker, content = segments[place]
            content = bytearray(content.ljust(6, b"\0"))
            match random.integers(4):
                case 0:
                    content[1:3] = struct.pack(">H", int(random.choice(_SIZES)))
                case 1:
                    content[3:5] = struct.pack(">H", int(random.choice(_SIZES)))
                case 2:
                    content[int(random.integers(5, len(content)))] = int(
                        random.choice([1, 2, 3, 4, 0x11, 0x12, 0x21, 0x22, 0x41, 0x14, 0x44, 0])
                    )
                case 3:
                    marker = int(random.choice([0xC0, 0xC1, 0xC2, 0xC3, 0xC9, 0xCA, 0xCE]))
            segments[place] = (marker, bytes(content))
        case 2:
            segments = _with_other_parts(segments, random)
        case 3:
            segments.insert(place, (0xDD, struct.pack(">H", int(random.choice(_SIZES)))))
        case 4:
            cut = int(random.integers(len(scan) + 1))
            scan = scan[:cut] + random.bytes(int(random.integers(20))) + b"\xff\xd9"
        case 5:
            scan = _changed(scan, random, files) + b"\xff\xd9"
        case 6:
            segments[place] = (marker, _changed(content, random, files)[:65533])
    head = [
        struct.pack(">BBH", 0xFF, mark, len(content) + 2) + content for mark, content in segments
    ]
    return b"".join([data[:2], *head, scan])


def _of_webp(data, random, files):
    """Changed chunks, also inside those of frames, with right lengths."""

    def split(data):
        chunks, at = [], 0
        while at + 8 <= len(data):
            (length,) = struct.unpack("<I", data[at + 4 : at + 8])
            chunks.append((data[at : at + 4], data[at + 8 : at + 8 + length]))
            at += 8 + length + length % 2
        return chunks

    def joined(chunks):
        return b"".join(
            name + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)
            for name, content in chunks
        )

    def changed(chunks):
        if not chunks:
            return chunks
        place = int(random.integers(len(chunks)))
        name, content = chunks[place]
        header = {b"VP8X": 10, b"ANMF": 16}.get(name, 0)
        if header and len(content) >= header and random.random() < 0.7:
            content = bytearray(content)
            at = int(random.integers(header // 3))
            match random.integers(3):
                case 0:
                    content[0 if name == b"VP8X" else 15] = int(random.integers(256))
                case 1:
                    start = 4 + 3 * (at % 2) if name == b"VP8X" else 3 * at
                    value = int(random.choice(_SIZES)) + int(random.integers(-1, 2))
                    content[start : start + 3] = struct.pack("<i", value)[:3]
                case 2:
                    inner = content[16:] if name == b"ANMF" else b""
                    content = content[: len(content) - len(inner)] + joined(
                        changed(split(bytes(inner)))
                    )
            chunks[place] = (name, bytes(content))
        elif random.random() < 0.4:
            chunks = _with_other_parts(chunks, random)
        else:
            chunks[place] = (name, _changed(content, random, files))
        return chunks

    body = joined(changed(split(data[12:])))
    size = len(body) + 4 if random.random() < 0.9 else int(random.choice(_NUMBERS))
    return b"RIFF" + struct.pack("<I", size) + b"WEBP" + body


def _of_gif(data, random, files):
    """Other numbers in the header, in a frame's descriptor, and where its codes begin."""
    if len(data) < 14:
        return data
    data = bytearray(data)
    table = 3 * 2 ** (data[10] % 8 + 1) if data[10] & 128 else 0
    frame = data.find(b",", 13 + table)
    choices = [6, 8, 10, 11] + ([frame + i for i in (1, 3, 5, 7, 9, 10)] if frame > 0 else [])
    place = int(random.choice(choices))
    if place in (10, frame + 9, frame + 10):
        if place < len(data):
            data[place] = int(random.integers(256))
    else:
        data[place : place + 2] = struct.pack("<H", int(random.choice(_SIZES)))
    return bytes(data)


def _of_bmp(data, random, files):
    """Another number in a field of the header."""
    data = bytearray(data)
    place, code = [(10, "i"), (14, "i"), (18, "i"), (22, "i"), (26, "h"), (28, "h"), (30, "i")][
        random.integers(7)
    ]
    choices = {28: (0, 1, 4, 8, 16, 24, 32, 64), 30: (0, 1, 2, 3), 14: (12, 40, 108, 124)}
    value = int(random.choice(choices.get(place, (*_NUMBERS, -1, -31, -(2**31)))))
    size = struct.calcsize(code)
    data[place : place + size] = struct.pack("<q", value)[:size]
    return bytes(data)


def _of_ppm(data, random, files):
    """Another number in the header."""
    parts = data.split(None, 4)
    if len(parts) < 5:
        return data
    parts[int(random.integers(1, 4))] = str(random.choice(_NUMBERS)).encode()
    return b"\n".join(parts)


_STRUCTURES = {
    "png": _of_png,
    "jpeg": _of_jpeg,
    "webp": _of_webp,
    "gif": _of_gif,
    "bmp": _of_bmp,
    "ppm": _of_ppm,
}


# Files that a decoder may work on for minutes, or that it needs gigabytes for -------------------


def _jpeg_of_many_scans():
    data = _saved(Image.new("L", (900, 900), 128), "JPEG", progressive=True)
    last = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + 5000 * last + b"\xff\xd9"


def _jpeg_of_many_sequential_scans():
    """One component a scan; restart markers and a comment before, which a search must skip."""
    data = _saved(_picture(size=(900, 900)), "JPEG", subsampling=0)
    first = data.index(b"\xff\xda")
    scan = b"\xff\xda\0\x08\1\1\0\0\x3f\0" + bytes(8)
    comment = b"\xff\xd0\xff\xfe\0\x12" + data[data.index(b"\xff\xc0") :][:16]
    return data[:2] + comment + data[2:first] + 5000 * scan + b"\xff\xd9"


def _png_of_many_texts(name, *, is_after):
    text = b"k\0" + (b"\0" if name == b"zTXt" else b"\1\0\0\0") + zlib.compress(b" " * 7_900_000, 9)
    header = struct.pack(">IIBBBBB", 2, 2, 8, 0, 0, 0, 0)
    texts = [(name, text)] * 900
    pixels = [(b"IDAT", zlib.compress(bytes(6)))]
    parts = [*pixels, *texts] if is_after else [*texts, *pixels]
    return _joined_png([(b"IHDR", header), *parts, (b"IEND", b"")])


def _still_webp_that_claims_to_move():
    still = bytearray(_saved(_picture(), "WEBP", lossless=True, exif=_exif(3)))
    still[20] = still[20] & ~0x10 | 0x02
    return bytes(still)


HEAVY = {
    "a JPEG of many scans": ("refused", _jpeg_of_many_scans),
    "a JPEG of many sequential scans": ("refused", _jpeg_of_many_sequential_scans),
    "a PNG of many zTXt": ("refused", lambda: _png_of_many_texts(b"zTXt", is_after=False)),
    "a PNG of many iTXt": ("refused", lambda: _png_of_many_texts(b"iTXt", is_after=True)),
    "a GIF of many comments": (
        "refused",
        lambda: undamaged("gif")[0].replace(b",", b"!\xfe\1a\0" * 30_000 + b",", 1),
    ),
    "a still WebP that claims to move": ("either", _still_webp_that_claims_to_move),
}
"""By name what becomes of it, and the file."""


# The program -----------------------------------------------------------------------------------


def _doors():
    """Everything that decodes, by name: bytes to an array, or an InvalidArgumentError."""
    import tensorflow as tf

    from tf_image_classification.dataset.image.decode import decoder
    from tf_image_classification.dataset.image.decode_and_crop import image_headers
    from tf_image_classification.dataset.preprocessing import Preprocessing

    def part(is_training):
        prepare = Preprocessing(is_training=is_training)

        @tf.function(input_signature=[tf.TensorSpec([], tf.string)])
        def read(data):
            header = image_headers(data[tf.newaxis])[0]
            seed = tf.constant([1, 2], tf.int64)
            return prepare.from_bytes(data, 32, 32, seed, header=header, max_pixels=LIMIT)

        return lambda data: read(tf.constant(data)).numpy()

    return {
        "decode": lambda data: decoder(LIMIT)(tf.constant(data)).numpy(),
        "evaluation": part(is_training=False),
        "training": part(is_training=True),
    }


class _InMemory:
    kind, path = "file", "x"

    def __init__(self, data):
        self._data = data

    def read(self):
        return self._data


def _new_peak_kib():
    """The most memory since the last call; 0 where the system does not tell."""
    try:
        with open("/proc/self/status") as stream:
            peak = next(int(line.split()[1]) for line in stream if line.startswith("VmHWM"))
        with open("/proc/self/clear_refs", "w") as stream:
            stream.write("5")
    except OSError:
        return 0
    return peak


def _decoded(data, doors):
    """What becomes of a file, as plain values."""
    import tensorflow as tf

    from tf_image_classification.dataset.image.diagnose import explain_bad_image
    from tf_image_classification.dataset.readers import Row
    from tf_image_classification.inspection.image_stats import measure_image

    found, before = {}, _new_peak_kib()
    for door, read in doors.items():
        try:
            array = read(data)
        except tf.errors.InvalidArgumentError:
            found[door] = "refused"
        else:
            found[door] = hashlib.sha256(array.tobytes()).hexdigest()[:16]
            if door == "decode":
                found["shape"] = array.shape
    found["reason"] = explain_bad_image(data, max_pixels=LIMIT)
    found["problem"] = measure_image(Row("", _InMemory(data), {}), LIMIT).problem
    found["peak_kib"] = _new_peak_kib() - before
    return found


def main(path, kinds, first, count):
    """Decode files of some kinds through every door; a line of JSON for each in the file."""
    doors = _doors()
    for read in doors.values():  # traced before the memory is measured
        for data in (file for kind in KINDS for file in undamaged(kind)):
            read(data)
    with open(path, "w", buffering=1) as progress:
        for kind in kinds.split(","):
            names = HEAVY if kind == "heavy" else range(int(first), int(first) + int(count))
            for name in names:
                progress.write(json.dumps({"kind": kind, "name": name}) + "\n")
                data = HEAVY[name][1]() if kind == "heavy" else mutant(kind, name)
                found = {"kind": kind, "name": name, **_decoded(data, doors)}
                progress.write(json.dumps(found) + "\n")
        progress.write('"done"\n')


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    main(*sys.argv[1:])
