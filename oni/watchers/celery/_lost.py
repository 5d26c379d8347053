"""Finds messages that Redis, or a worker, was lost with, and sends them again."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from threading import Thread

from oni.watchers.celery._post import Post

__all__ = ["LostAndFound"]

# A worker's main process has no reactor, which would let Twisted's log be heard.
_log = logging.getLogger(__name__)


class LostAndFound:
    """Looks after the messages of some queues, in a thread of its own.

    The thread ends with the process; where the broker can lose nothing so, after its first look.

    Args:
        make_post: Makes a connection to the broker.
        queues: The queues' names.
        seconds: After so long a message counts as lost, if its queue is empty. An eighth of it,
            but no more than 30 and no less than 0.5, lies between two looks.
    """

    def __init__(
        self, make_post: Callable[[], Post], queues: Iterable[str], seconds: float
    ) -> None:
        self._make_post = make_post
        self._queues = tuple(queues)
        self._seconds = seconds
        self._interval = min(30.0, max(0.5, seconds / 8))

    def start(self) -> None:
        """Begin to look."""
        Thread(target=self._live, name="oni-lost-messages", daemon=True).start()

    def _live(self) -> None:
        post = self._make_post()
        is_needed = True
        while is_needed:
            time.sleep(self._interval)
            try:
                is_needed = self.look(post)
            except Exception as error:  # noqa: BLE001 - Celery says when the broker is away
                _log.debug("lost messages cannot be looked for: %s", error)
                post.close()
        post.close()

    def look(self, post: Post) -> bool:
        """Send again what is lost; say whether this broker can lose anything so."""
        for queue in self._queues:
            kept = post.kept(queue)
            if kept is None:
                return False
            for lost in kept.lost(self._seconds):
                _log.warning("the message %s was lost, and is sent again", lost.key)
                post.send(lost.message, lost.key, attempt=lost.attempt, queue=queue)
        return True
