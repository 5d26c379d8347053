"""The carrier of Sanic in a real server under the asyncio reactor, with real clients."""

from __future__ import annotations

from pathlib import Path

import pytest

from oni.testing import CarrierBattery
from tests.integration.clients import needs_websockets
from tests.integration.trial_run import run_cases

pytest.importorskip("sanic")
pytestmark = [needs_websockets, pytest.mark.timeout(180)]

CASES = sum(name.startswith("test_") for name in dir(CarrierBattery))


def test_battery(tmp_path: Path) -> None:
    """It passes the whole battery, and leaves its channels when nothing is published, too."""
    assert run_cases("sanic_cases", tmp_path) == CASES + 1


def test_example() -> None:
    """What is posted to the example reaches every websocket, and goes on when one has left."""
    from tests.integration.carrier_example import check_example

    check_example("sanic")
