"""What helps to test what is built on Oni: fakes, and batteries that implementations must pass."""

from __future__ import annotations

from oni.testing._backend_battery import BackendBattery, RecordingSink, SynchronousBackendBattery
from oni.testing._carrier_battery import CarrierBattery, SynchronousCarrierBattery
from oni.testing._ear import Ear
from oni.testing._fake_backend import FakeBackend
from oni.testing._ledger_battery import LedgerStoreBattery, take_random_steps
from oni.testing._ledger_model import LedgerModel
from oni.testing._outbox_battery import OutboxBattery

__all__ = [
    "BackendBattery",
    "CarrierBattery",
    "Ear",
    "FakeBackend",
    "LedgerModel",
    "LedgerStoreBattery",
    "OutboxBattery",
    "RecordingSink",
    "SynchronousBackendBattery",
    "SynchronousCarrierBattery",
    "take_random_steps",
]
