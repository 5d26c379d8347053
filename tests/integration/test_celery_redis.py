"""Changes of models over a real Redis to real workers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.celery_case import blog
from tests.integration.celery_scenes import BrokerScenes
from tests.integration.redis_server import RedisServer, needs_redis

pytestmark = [needs_redis, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """Give a server that may not be started yet, and ends with these tests."""
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    try:
        yield server
    finally:
        server.stop()


class TestRedis(BrokerScenes):
    """Messages are in a list, and what workers have taken beside it."""


def test_confirmed_and_lost(tmp_path: Path) -> None:
    """A broker that confirms what it has not written down loses it, and nobody can know."""
    for appends, kept in (("no", []), ("yes", ["a"])):
        folder = tmp_path / appends
        folder.mkdir()
        server = RedisServer(folder, appendonly=appends)
        server.start()
        try:
            with blog(folder, server.url) as saving:
                saving.save("a")
                saving.until_told(1)
            server.kill()
            server.start()
            with server.client() as client:
                assert client.llen(folder.name) == len(kept)
        finally:
            server.stop()
