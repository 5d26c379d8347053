"""Notes on ``twisted.web``: run by ``PYTHONPATH=. twistd -ny on_twisted_web.py``, here."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from notes import Notes
from twisted.application import service, strports
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site
from twisted.web.static import Data

from oni.errors import Refused
from oni.server import EmbeddedOni, load_settings

HERE = Path(__file__).parent

embedded = EmbeddedOni(load_settings(HERE / "oni.toml"))
notes = Notes(embedded.oni)


def answer(request: Request, status: int, method: Callable[..., Any], *args: Any) -> int:
    """Answer with what a method gives, once it has been called in a thread."""

    def failed(failure: Failure) -> None:
        if not failure.check(CancelledError):  # the client has gone
            request.processingFailed(failure)

    sending = Deferred.fromCoroutine(send(request, status, method, *args))
    request.notifyFinish().addErrback(lambda _: sending.cancel())
    sending.addErrback(failed)
    return NOT_DONE_YET


async def send(request: Request, status: int, method: Callable[..., Any], *args: Any) -> None:
    """Send what a method gives, or why it refuses."""
    try:
        body = await deferToThread(method, *args)
    except Refused as refused:
        status, body = refused.code, {"error": refused.message}
    request.setResponseCode(status)
    request.setHeader("content-type", "application/json")
    request.write(json.dumps(body).encode())
    request.finish()


class AllNotes(Resource):
    """``/notes``."""

    def render_GET(self, request: Request) -> int:
        """Give all of them."""
        return answer(request, 200, notes.all)

    def render_POST(self, request: Request) -> int:
        """Make one."""
        return answer(request, 201, notes.create, request.content.read())

    def getChild(self, path: bytes, request: Request) -> Resource:
        """Find one."""
        return OneNote(path.decode("ascii", "replace"))


class OneNote(Resource):
    """``/notes/ID``."""

    def __init__(self, id: str) -> None:
        """Know which."""
        super().__init__()
        self._id = id

    def render_GET(self, request: Request) -> int:
        """Give it."""
        return answer(request, 200, notes.get, self._id)

    def render_DELETE(self, request: Request) -> int:
        """Delete it."""
        return answer(request, 200, notes.delete, self._id)


page = (HERE / "page.html").read_text().replace("{{ events }}", "/events")
root = Resource()
root.putChild(b"", Data(page.encode(), "text/html; charset=utf-8"))
root.putChild(b"notes", AllNotes())
root.putChild(b"events", embedded.resource)  # so /events/connection/websocket

application = service.Application("notes")
embedded.setServiceParent(application)
strports.service("tcp:8080:interface=127.0.0.1", Site(root)).setServiceParent(application)
