"""Notes on Klein: run by ``PYTHONPATH=. twistd -ny on_klein.py``, here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from klein import Klein
from notes import Notes
from twisted.application import service, strports
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import Request, Site

from oni.errors import Refused
from oni.server import EmbeddedOni, load_settings

HERE = Path(__file__).parent
PAGE = (HERE / "page.html").read_text().replace("{{ events }}", "/events")

embedded = EmbeddedOni(load_settings(HERE / "oni.toml"))
notes = Notes(embedded.oni)
app = Klein()


def answer(request: Request, status: int, body: Any) -> bytes:
    """Answer with JSON."""
    request.setResponseCode(status)
    request.setHeader("content-type", "application/json")
    return json.dumps(body).encode()


@app.route("/")
def page(request: Request) -> bytes:
    """Show the page."""
    request.setHeader("content-type", "text/html; charset=utf-8")
    return PAGE.encode()


@app.route("/notes", methods=["GET"])
async def list_notes(request: Request) -> bytes:
    """Give all notes."""
    return answer(request, 200, await deferToThread(notes.all))


@app.route("/notes", methods=["POST"])
async def create_note(request: Request) -> bytes:
    """Make a note."""
    return answer(request, 201, await deferToThread(notes.create, request.content.read()))


@app.route("/notes/<id>", methods=["GET"])
async def get_note(request: Request, id: str) -> bytes:
    """Give a note."""
    return answer(request, 200, await deferToThread(notes.get, id))


@app.route("/notes/<id>", methods=["DELETE"])
async def delete_note(request: Request, id: str) -> bytes:
    """Delete a note."""
    return answer(request, 200, await deferToThread(notes.delete, id))


@app.handle_errors(Refused)
def refused(request: Request, failure: Failure) -> bytes:
    """Say why not."""
    return answer(request, failure.value.code, {"error": failure.value.message})


@app.route("/events", branch=True)  # so /events/connection/websocket
def events(request: Request) -> Resource:
    """Leave it to the Oni."""
    return embedded.resource


application = service.Application("notes")
embedded.setServiceParent(application)
site = Site(app.resource())
strports.service("tcp:8080:interface=127.0.0.1", site).setServiceParent(application)
