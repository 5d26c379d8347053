"""Changes of models over a real RabbitMQ to real workers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.celery_case import blog
from tests.integration.celery_scenes import BrokerScenes
from tests.integration.rabbitmq_server import RabbitMqServer, needs_rabbitmq

pytestmark = [needs_rabbitmq, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMqServer]:
    """Give a server that may not be started yet, and ends with these tests."""
    server = RabbitMqServer(tmp_path_factory.mktemp("rabbitmq"))
    try:
        yield server
    finally:
        server.stop()


class TestRabbitMq(BrokerScenes):
    """Messages are in a durable queue, and confirmed when they are on the disk."""

    def test_a_deleted_queue(self, running: RabbitMqServer, tmp_path: Path) -> None:
        """A message that no queue takes is not confirmed: it is sent again, to one made anew."""
        import amqp

        with blog(tmp_path, running.url) as saving:
            saving.save("a")
            saving.until_told(1)
            with amqp.Connection(f"127.0.0.1:{running.port}") as connection:
                channel = connection.channel()
                channel.queue_delete(tmp_path.name)
                saving.save("b")
                saving.until_told(2)
                _, waiting, _ = channel.queue_declare(tmp_path.name, passive=True)
                assert waiting == 1
