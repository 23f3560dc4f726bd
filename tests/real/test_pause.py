"""A server stopped and continued under load keeps its sessions, its writes and its clock."""

from __future__ import annotations

import pytest

from .pause import run_pauses
from .servers import missing_reason


def test_a_server_that_stood_still_goes_on():
    reason = missing_reason("meridian")
    if reason is not None:
        pytest.skip(reason)
    report = run_pauses(4, workers=4)
    assert report.problems == []
    assert report.pauses == 4
    assert report.acknowledged > 10
