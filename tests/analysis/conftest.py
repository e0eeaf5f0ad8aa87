"""Laws that a test adds are gone with it."""

import pytest

from analysis import LAWS


@pytest.fixture(autouse=True)
def known_laws():
    before = dict(LAWS)
    yield
    LAWS.clear()
    LAWS.update(before)
