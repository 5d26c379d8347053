"""``/healthz`` and ``/readyz``: for those who start, watch and choose between processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from twisted.web.resource import Resource

from oni import __version__
from oni.server.running._condition import Condition

__all__ = ["Health", "Readiness"]


class _JsonPage(Resource):
    """A page that says in JSON how something is. Anybody may read it."""

    isLeaf = True

    def render_GET(self, request: Any) -> bytes:
        """Tell it, never from a cache."""
        status, told = self.tell()
        body = msgspec.json.encode(told) + b"\n"
        request.setResponseCode(status)
        request.setHeader(b"content-type", b"application/json")
        request.setHeader(b"cache-control", b"no-store")
        request.setHeader(b"content-length", b"%d" % len(body))
        return body

    def tell(self) -> tuple[int, dict[str, Any]]:
        """Give the status and what there is to say."""
        raise NotImplementedError


class Health(_JsonPage):
    """Whether the process lives: 200 as long as its reactor turns."""

    def __init__(
        self, seconds: Callable[[], float], troubles: Callable[[], Sequence[str]] = tuple
    ) -> None:
        """Count from now.

        Args:
            seconds: Gives the time.
            troubles: Gives what does not work though the process lives.
        """
        super().__init__()
        self._seconds = seconds
        self._troubles = troubles
        self._began = seconds()

    def tell(self) -> tuple[int, dict[str, Any]]:
        """Say that it does; who asks while the reactor is blocked gets no answer."""
        uptime = int(self._seconds() - self._began)
        told: dict[str, Any] = {"status": "ok", "version": __version__, "uptime": uptime}
        if troubles := self._troubles():
            told |= {"status": "degraded", "reasons": list(troubles)}
        return 200, told


class Readiness(_JsonPage):
    """Whether new clients are welcome: 200, or 503 and why not."""

    def __init__(self, condition: Condition) -> None:
        """Tell of a condition."""
        super().__init__()
        self._condition = condition

    def tell(self) -> tuple[int, dict[str, Any]]:
        """Say so, with every reason."""
        problems: Sequence[str] = self._condition.problems()
        if problems:
            return 503, {"status": "not ready", "reasons": list(problems)}
        return 200, {"status": "ready"}
