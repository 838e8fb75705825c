"""Names of images that are frames of one video, or photographs of one burst.

parse_name("walk/clip03_frame_0012.jpg", "walk").video            # "walk/clip03"
parse_name("cat/IMG_20240102_101010_BURST001.jpg", "cat").burst   # "cat/IMG_20240102_101010"
parse_name("glass/glass12.jpg", "glass").sequence                 # "glass/glass#", and number 12

A name that holds a video's name and the word frame is enough. A numbering alone is not: then the
images must be alike too, see ``example_groups``.
"""

from __future__ import annotations

import dataclasses
import datetime
import re

_VIDEO = re.compile(
    r"(?P<video>.*?)[-_. ]*(?:frame|frm|slice)[-_. ]*(?P<number>\d+)(?:\D.*)?", re.IGNORECASE
)
# One letter for a frame, layer or time: only behind a name that has a number of its own.
_LETTER = re.compile(r"(?P<video>.*\d.*?)[-_. ](?:fr|f|z|t)(?P<number>\d+)", re.IGNORECASE)
_BURST = re.compile(r"(?P<burst>.*?)[-_. ]*burst[-_. ]*(?P<number>\d+)(?:\D.*)?", re.IGNORECASE)
_STAMP = re.compile(
    r"(?<!\d)(?P<day>(?:19|20)\d\d[-_]?[01]\d[-_]?[0-3]\d)(?:[-_T ]| at )+"
    r"(?P<time>[0-2]\d[-_.:h]?[0-5]\d[-_.:m]?[0-5]\d)(?P<milli>\d{3})?(?!\d)"
)
_LENGTH_OF_STAMP = 14  # digits, as in BURST20190830151315


@dataclasses.dataclass(frozen=True)
class FrameName:
    """What a name says about the frames or photographs beside it.

    Attributes:
        sequence: the name with # for its last number: equal for images that a number distinguishes.
        number: that number; -1 without one.
        video: the video that the name holds, or "".
        burst: the burst that the name holds, or "".
        taken: seconds since an epoch, from a time stamp in the name; None without one.
    """

    sequence: str
    number: int = -1
    video: str = ""
    burst: str = ""
    taken: float | None = None


def parse_name(name: str, class_name: str = "") -> FrameName:
    """What the name of an image tells.

    Args:
        name: relative to its source, with folders.
        class_name: its class, whose folder is no video.
    """
    folder, _, base = name.replace("\\", "/").rpartition("/")
    stem = base.rpartition(".")[0] or base
    place = f"{folder}/" if folder else ""
    numbers = list(re.finditer(r"\d+", stem))
    if not numbers:
        return FrameName(place + stem)
    last = numbers[-1]
    sequence = f"{place}{stem[: last.start()]}#{stem[last.end() :]}"
    number, video, burst = int(last[0]), "", ""
    if (found := _BURST.fullmatch(stem)) is not None:
        is_stamp = len(found["number"]) >= _LENGTH_OF_STAMP
        burst = place + (found["number"] if is_stamp else found["burst"])
    elif (found := _VIDEO.fullmatch(stem) or _LETTER.fullmatch(stem)) is not None:
        number, video = int(found["number"]), _video(found["video"], folder, class_name)
    return FrameName(sequence, number, video, burst, _taken(stem))


def _video(video: str, folder: str, class_name: str) -> str:
    """The video that a name holds; without a name of its own it is the folder below a class's."""
    if video and video.casefold() != class_name.casefold():
        return f"{folder}/{video}" if folder else video
    parent, _, own = folder.rpartition("/")
    is_of_class = own.casefold() == class_name.casefold()
    return folder if parent and not is_of_class else ""


def _taken(stem: str) -> float | None:
    found = _STAMP.search(stem)
    if found is None:
        return None
    digits = re.sub(r"\D", "", found["day"] + found["time"])
    try:
        moment = datetime.datetime.strptime(digits, "%Y%m%d%H%M%S")
    except ValueError:
        return None
    return _seconds(moment) + int(found["milli"] or 0) / 1000


def _seconds(moment: datetime.datetime) -> float:
    return moment.replace(tzinfo=datetime.timezone.utc).timestamp()


def seconds_of_exif(text: str, fraction: str = "") -> float | None:
    """Seconds since an epoch of an EXIF time, e.g. ``2024:01:02 10:10:10``; None if it is none.

    Args:
        text: of DateTimeOriginal.
        fraction: of SubSecTimeOriginal: digits behind the decimal point.
    """
    try:
        moment = datetime.datetime.strptime(text.strip("\0 "), "%Y:%m:%d %H:%M:%S")
    except ValueError:  # also 0000:00:00 00:00:00, of a camera without a clock
        return None
    digits = fraction.strip("\0 ")
    return _seconds(moment) + (float(f"0.{digits}") if digits.isdigit() else 0.0)
