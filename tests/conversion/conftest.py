"""What several tests of conversion start from."""

import pytest

from dataset.tiny_sources import png


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    for number, name in enumerate(("bee", "ant")):
        (folder / name).mkdir(parents=True)
        for i in range(10):
            (folder / name / f"{i}.png").write_bytes(png(100 * number + i))
    return folder
