"""Gives messages to a broker, and waits until it has them. All of it blocks, within bounds."""

from __future__ import annotations

import time
from typing import Any

from oni.watchers.celery._kept import Kept

__all__ = ["TASK", "Post"]

TASK = "oni.model_event"
"""The name of the task that a receiver has, and a sender asks for."""


class Post:
    """A connection to the broker of a Celery app, for one thread.

    On AMQP the broker confirms every message, once it has it on its disk if the queue is a durable
    one; a message that no queue takes fails. On Redis it is its answer. Nothing is tried again
    here, but for what a connection that was idle has met with. Of several brokers each has its
    turn when the one before takes no connection.

    Args:
        app: The Celery app.
        timeout: Seconds that each single step may take.
        queue: The queue. None: where the app's routes lead.
    """

    def __init__(self, app: Any, timeout: float, queue: str | None = None) -> None:
        self._app = app
        self._timeout = timeout
        self._queue = queue
        self._connection: Any = None
        self._turn = 0  # of the app's brokers, if it has several

    def send(
        self,
        message: str,
        key: str,
        *,
        attempt: int = 1,
        countdown: float | None = None,
        queue: str | None = None,
    ) -> None:
        """Let a worker have a message.

        Args:
            message: The message.
            key: Its key.
            attempt: Which attempt of the worker's this is for.
            countdown: Seconds that the worker shall wait.
            queue: Another queue. None: the one that was said, or where the app's routes lead.

        Raises:
            Exception: It is not known that the broker has it.
        """
        began = time.monotonic()
        is_fresh = self._connection is None
        options = {"countdown": countdown, "queue": self._destination(queue)}
        told = (message, key, attempt)
        try:
            self._send(told, options)
        except Exception:
            self.close()
            if is_fresh or time.monotonic() - began > self._timeout / 2:
                raise
            try:
                self._send(told, options)  # the broker may have closed what nobody used
            except BaseException:
                self.close()
                raise

    def _send(self, told: tuple[str, str, int], options: dict[str, Any]) -> None:
        message, key, attempt = told
        queue = options["queue"]
        kept = self.kept(queue)
        token = None if kept is None else kept.keep(key, message, attempt)
        self._app.send_task(
            TASK,
            args=[message, attempt, token, queue],
            connection=self._connection,
            ignore_result=True,
            retry=False,
            serializer="json",
            delivery_mode=2,  # on the disk
            mandatory=True,
            timeout=self._timeout,
            confirm_timeout=self._timeout,
            add_to_parent=False,
            **options,
        )

    def _destination(self, queue: str | None) -> str | None:
        """Say which queue a message goes to; None: the app's routes name no queue for it."""
        said = queue or self._queue
        found = self._app.amqp.router.route({"queue": said} if said else {}, TASK).get("queue")
        return None if found is None else str(found.name)

    def _connect(self) -> Any:
        connection = self._app.connection_for_write(connect_timeout=self._timeout)
        for _ in range(self._turn):
            connection.maybe_switch_next()
        is_amqp = connection.transport.driver_type == "amqp"
        connection.transport_options.update(
            {"confirm_publish": True, "max_retries": 0}
            if is_amqp
            else {
                "max_retries": 0,
                "socket_connect_timeout": self._timeout,
                "socket_timeout": self._timeout,
            }
        )
        try:
            connection.ensure_connection(max_retries=0, timeout=self._timeout)
            if is_amqp:
                # Its own read_timeout is one of the system's, which it goes on after.
                connection.connection.transport.sock.settimeout(self._timeout)
        except BaseException:
            self._turn = (self._turn + 1) % max(1, len(connection.alt))
            _drop(connection)
            raise
        return connection

    def kept(self, queue: str | None) -> Kept | None:
        """Give what Redis keeps of a queue's messages; None on another broker, or of no queue."""
        if self._connection is None:
            self._connection = self._connect()
        if queue is None or self._connection.transport.driver_type != "redis":
            return None
        return Kept(self._connection.default_channel.client, queue)

    @property
    def address(self) -> str:
        """Where the broker is, without a password."""
        try:
            return str(self._app.connection_for_write().as_uri())
        except Exception:  # noqa: BLE001 - it may be what is wrong
            return ""

    def close(self) -> None:
        """Drop the connection, if there is one. The next message makes another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            _drop(connection)


def _drop(connection: Any) -> None:
    """Let go of a connection that may be dead: AMQP's own end would wait for an answer."""
    try:
        if connection.transport.driver_type == "amqp":
            connection.collect()
        else:
            connection.release()
    except Exception:  # noqa: BLE001 - it is of no use any more
        pass
