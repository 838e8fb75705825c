"""Names that people and programs give to images: frames, bursts, or only a numbering."""

import pytest

from tf_image_classification.inspection.frame_names import parse_name, seconds_of_exif

VIDEOS = {
    "walk/clip03_frame_0012.jpg": "walk/clip03",
    "walk/clip03-frame12.png": "walk/clip03",
    "walk/Clip 3 Frame 12.png": "walk/Clip 3",
    "walk/clip03.mp4_frame_000012.jpg": "walk/clip03.mp4",
    "walk/VID_2024_f12.png": "walk/VID_2024",
    "walk/s3/frame_000001.jpg": "walk/s3",
    "walk/s3/frame000001.jpg": "walk/s3",
    "tumour/patient12_slice034.png": "tumour/patient12",
    "cell/well7_t003.tif": "cell/well7",
    "run/frm_01/dQw4w9WgXcQ_frame_0001.jpg": "run/frm_01/dQw4w9WgXcQ",
}
BURSTS = {
    "cat/IMG_20240102_101010_BURST001.jpg": "cat/IMG_20240102_101010",
    "cat/00003IMG_00003_BURST20190830151315123_COVER.jpg": "cat/20190830151315123",
    "cat/DSC_BURST12.jpg": "cat/DSC",
}
NUMBERED = {
    "glass/glass12.jpg": ("glass/glass#", 12),
    "glass/0001.jpg": ("glass/#", 1),
    "deer/RCNX0001.JPG": ("deer/RCNX#", 1),
    "deer/GOPR0042.JPG": ("deer/GOPR#", 42),
    "deer/out0001.png": ("deer/out#", 1),
    "deer/siteA-000123.jpg": ("deer/siteA-#", 123),
    "train/cat.123.jpg": ("train/cat.#", 123),
    "n01440764/n01440764_10026.JPEG": ("n01440764/n01440764_#", 10026),
    "7/img_12.jpg": ("7/img_#", 12),
    "walk/frame_0001.jpg": ("walk/frame_#", 1),  # the class's own folder is no video
    "walk/walk_frame_0001.jpg": ("walk/walk_frame_#", 1),
    "cat/cat_f12.jpg": ("cat/cat_f#", 12),  # no number before it: the twelfth female cat?
    "cat/kitten (3).jpg": ("cat/kitten (#)", 3),
    "cat/tom.jpg": ("cat/tom", -1),
    "cat\\img1.png": ("cat/img#", 1),
}


@pytest.mark.parametrize("name", VIDEOS)
def test_a_name_holds_a_video(name):
    assert parse_name(name, name.split("/")[0]).video == VIDEOS[name]


@pytest.mark.parametrize("name", BURSTS)
def test_a_name_holds_a_burst(name):
    found = parse_name(name, "cat")
    assert (found.burst, found.video) == (BURSTS[name], "")


@pytest.mark.parametrize("name", NUMBERED)
def test_a_numbering_is_no_video(name):
    found = parse_name(name, name.replace("\\", "/").split("/")[0])
    assert (found.sequence, found.number) == NUMBERED[name]
    assert found.video == found.burst == ""


@pytest.mark.parametrize(
    "name", ["IMG_20240102_101010.jpg", "PXL_20240102_101010123.jpg", "20240102-101010(0).jpg",
             "WhatsApp Image 2024-01-02 at 10.10.10.jpeg"],
)  # fmt: skip
def test_a_time_stamp_is_read(name):
    taken = parse_name(f"cat/{name}").taken
    assert taken == pytest.approx(seconds_of_exif("2024:01:02 10:10:10"), abs=0.2)


def test_what_is_no_time_is_none():
    assert seconds_of_exif("0000:00:00 00:00:00") is None and seconds_of_exif("") is None
    assert parse_name("cat/20249999_999999.jpg").taken is None
    whole = seconds_of_exif("2024:01:02 10:10:10")
    assert seconds_of_exif("2024:01:02 10:10:10", "25") - whole == pytest.approx(0.25)
