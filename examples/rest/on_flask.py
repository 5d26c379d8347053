"""Notes on Flask: run by ``python on_flask.py``.

Flask's threads handle requests; the reactor, which crochet runs in another one, has the
websockets, on a port of their own.
"""

from __future__ import annotations

from pathlib import Path

from crochet import wait_for
from flask import Flask, jsonify, request
from flask.typing import ResponseReturnValue
from notes import Notes
from twisted.application import strports
from twisted.application.service import MultiService
from twisted.web.resource import Resource
from twisted.web.server import Site
from werkzeug.serving import make_server

from oni.blocking import setup
from oni.errors import Refused
from oni.server import EmbeddedOni, load_settings

HERE = Path(__file__).parent


def make_app(notes: Notes, events: str) -> Flask:
    """Make the application. Its page finds websockets below the address of events."""
    app = Flask(__name__)
    page = (HERE / "page.html").read_text().replace("{{ events }}", events)

    @app.get("/")
    def show_page() -> ResponseReturnValue:
        """Show the page."""
        return page

    @app.get("/notes")
    def list_notes() -> ResponseReturnValue:
        """Give all notes."""
        return jsonify(notes.all())

    @app.post("/notes")
    def create_note() -> ResponseReturnValue:
        """Make a note."""
        return jsonify(notes.create(request.get_data())), 201

    @app.get("/notes/<id>")
    def get_note(id: str) -> ResponseReturnValue:
        """Give a note."""
        return jsonify(notes.get(id))

    @app.delete("/notes/<id>")
    def delete_note(id: str) -> ResponseReturnValue:
        """Delete a note."""
        return jsonify(notes.delete(id))

    @app.errorhandler(Refused)
    def say_why(refused: Refused) -> ResponseReturnValue:
        """Say why not."""
        return jsonify(error=refused.message), refused.code

    return app


@wait_for(timeout=30)
def start_events() -> tuple[Notes, MultiService]:
    """Open the notes, and let websockets come. This runs in the reactor's thread."""
    embedded = EmbeddedOni(load_settings(HERE / "oni.toml"))
    notes = Notes(embedded.oni)
    services = MultiService()
    embedded.setServiceParent(services)
    root = Resource()
    root.putChild(b"events", embedded.resource)  # so /events/connection/websocket
    strports.service("tcp:5001:interface=127.0.0.1", Site(root)).setServiceParent(services)
    services.startService()
    return notes, services


def main() -> None:
    """Serve until interrupted."""
    setup()
    notes, services = start_events()
    try:
        app = make_app(notes, "http://127.0.0.1:5001/events")
        make_server("127.0.0.1", 5000, app, threaded=True).serve_forever()
    finally:
        wait_for(timeout=30)(services.stopService)()


if __name__ == "__main__":
    main()
