"""What a Redis server says of itself, and what is thought of it."""

from __future__ import annotations

import pytest

from oni.ledger._redis_checks import look_at

INFO = {
    "redis_version": "7.0.15",
    "role": "master",
    "connected_slaves": "0",
    "aof_enabled": "1",
    "maxmemory": "0",
    "maxmemory_policy": "noeviction",
}
CONFIG = {
    "appendonly": "yes",
    "appendfsync": "always",
    "maxmemory": "0",
    "maxmemory-policy": "noeviction",
}


def test_a_good_one() -> None:
    """Of one that keeps everything nothing is said."""
    found = look_at(INFO, CONFIG)
    assert (found.impossible, found.forgetful, found.warnings) == ([], [], [])


@pytest.mark.parametrize(
    ("info", "word"),
    [({"redis_version": "5.0.14"}, "5.0.14"), ({"role": "slave"}, "replica")],
)
def test_an_impossible_one(info: dict[str, str], word: str) -> None:
    """One that is too old, or cannot be written to, is none for a ledger, whatever is wanted."""
    (problem,) = look_at(INFO | info, CONFIG).impossible
    assert word in problem


@pytest.mark.parametrize(
    ("config", "word"),
    [
        ({"appendonly": "no"}, "set appendonly yes"),
        ({"appendfsync": "no"}, "appendfsync always"),
        ({"maxmemory": "100", "maxmemory-policy": "allkeys-lfu"}, "noeviction"),
    ],
)
def test_a_forgetful_one(config: dict[str, str], word: str) -> None:
    """One that forgets is told what to set."""
    found = look_at(INFO, CONFIG | config)
    (problem,) = found.forgetful
    assert word in problem
    assert found.warnings == []


@pytest.mark.parametrize(
    ("info", "config", "word"),
    [
        ({}, {"appendfsync": "everysec"}, "the last second or two"),
        ({}, {"maxmemory-policy": "allkeys-lru"}, "as soon as somebody sets maxmemory"),
        ({}, {"maxmemory": "100", "maxmemory-policy": "volatile-ttl"}, "never expire"),
        ({"connected_slaves": "1"}, {}, "replicas"),
    ],
)
def test_a_warning(info: dict[str, str], config: dict[str, str], word: str) -> None:
    """What may matter is said, and refuses nothing."""
    found = look_at(INFO | info, CONFIG | config)
    (warning,) = found.warnings
    assert word in warning
    assert (found.impossible, found.forgetful) == ([], [])


def test_what_cannot_be_seen() -> None:
    """INFO says most of what CONFIG would; what neither says is warned of."""
    (warning,) = look_at(INFO, None).warnings
    assert "see appendfsync," in warning
    assert look_at(INFO | {"aof_enabled": "0"}, None).forgetful
    assert look_at(INFO | {"maxmemory": "9", "maxmemory_policy": "allkeys-lru"}, None).forgetful
    (warning,) = look_at(None, None).warnings
    assert "appendonly" in warning
