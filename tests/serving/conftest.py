"""The run that the tests of this folder look at."""

import pytest

from serving import shipped_run as making


@pytest.fixture(scope="session")
def shipped_run(tmp_path_factory):
    return making.make(tmp_path_factory.mktemp("shipped"))
