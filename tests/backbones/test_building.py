"""The download of weights, as the screen shows it."""

import pytest

from tf_image_classification.backbones import building
from tf_image_classification.system import quiet


@pytest.mark.parametrize("is_hiding", [True, False])
def test_a_download_is_one_line_on_standard_error_unless_all_is_shown(
    monkeypatch, capsys, is_hiding
):
    def body(backbone, images, weights):
        for text in ("Downloading data from https://...", "1/9 [===]", "2/9 [===]"):
            print(text)
        return images

    monkeypatch.setattr(building, "_body", body)
    monkeypatch.setattr(quiet._state, "is_hiding", is_hiding)
    building.imagenet_values("mobilenet_v2")
    shown = capsys.readouterr()
    if is_hiding:
        assert shown.out == ""
        assert shown.err == "downloading the ImageNet weights of mobilenet_v2\n"
    else:
        assert "2/9" in shown.out and not shown.err
