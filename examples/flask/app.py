"""Users of a small Flask application, and what reacts when one is created.

Run it with ``python examples/flask/app.py``, then::

    curl -X POST -H 'Content-Type: application/json' -d '{"name": "bob", "role": "admin"}' \
        http://127.0.0.1:5000/users
    curl http://127.0.0.1:5000/happened
    curl http://127.0.0.1:5000/published

Flask's threads fire events and publish on a channel through the blocking faces. The handlers run
in the reactor's thread, where they may return Deferreds; the one that blocks runs in a thread of
its own.

Under gunicorn, with ``--preload`` or without, since importing this module starts no reactor::

    gunicorn --config examples/flask/gunicorn.conf.py --chdir examples/flask app:app
"""

from __future__ import annotations

import argparse
import time
from dataclasses import asdict, dataclass
from typing import Any

from flask import Flask, jsonify, request
from flask.typing import ResponseReturnValue
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from werkzeug.serving import make_server

from oni.blocking import BlockingChannels, BlockingEventDispatcher, setup
from oni.channels import Channels
from oni.dispatcher import in_thread
from oni.errors import EventAbortedError
from oni.twisted_event_dispatcher import EventDispatcher, Phase
from oni.values import StreamOptions


@dataclass(frozen=True)
class User:
    """A user of the application."""

    name: str
    role: str = "user"


happened: list[str] = []


def check_name(user: User) -> None:
    """Refuse a name that is taken: the phase aborts on errors."""
    if f"created {user.name}" in happened:
        raise ValueError(f"there is already a user {user.name}")


def create(user: User) -> None:
    """Create the user, synchronously."""
    happened.append(f"created {user.name}")


def mail(user: User) -> Deferred[str]:
    """Pretend to send a mail, which takes the network a while."""
    from twisted.internet import reactor

    def sent() -> str:
        happened.append(f"mailed {user.name}")
        return f"mailed {user.name}"

    return deferLater(reactor, 0.05, sent)


async def tell_admins(user: User) -> str:
    """Tell the others, after a while, when a new admin comes."""
    from twisted.internet import reactor

    await deferLater(reactor, 0.01)
    happened.append(f"told the admins of {user.name}")
    return f"told the admins of {user.name}"


def archive(user: User) -> str:
    """Write to a slow archive, by a library that blocks, and report it as an event of its own."""
    time.sleep(0.02)
    users.fire_event(user.name, kind="archived")  # nested: it does not wait for its own event
    return f"archived {user.name}"


def note(name: str) -> None:
    """Hear what the archive reports."""
    happened.append(f"archived {name}")


dispatcher = EventDispatcher(
    allowed_match_spec_keywords=("kind", "role"),
    phases=(Phase("check", on_error="abort"), "during", "after"),
)
for handler, phase, match_spec in (
    (check_name, "check", {"kind": "user_created"}),
    (create, "during", {"kind": "user_created"}),
    (mail, "after", {"kind": "user_created"}),
    (tell_admins, "after", {"kind": "user_created", "role": "admin"}),
    (in_thread(archive), "after", {"kind": "user_created"}),
    (note, "during", {"kind": "archived"}),
):
    dispatcher.add_event_handler(handler, phase, use_weakref=False, **match_spec)
dispatcher.start()

users = BlockingEventDispatcher(dispatcher, timeout=5.0)
channels = BlockingChannels(
    Channels(options=lambda name: StreamOptions(history_size=100, history_ttl=3600.0)), timeout=5.0
)
app = Flask(__name__)


@app.post("/users")
def post_user() -> ResponseReturnValue:
    """Create a user; answer when every handler has ended, with what they returned."""
    body: Any = request.get_json()
    if not isinstance(body, dict) or not isinstance(body.get("name"), str):
        return jsonify(error="send a JSON object with a name"), 400
    user = User(body["name"], str(body.get("role", "user")))
    try:
        result = users.fire_event(user, kind="user_created", role=user.role)
    except EventAbortedError as error:
        return jsonify(error=error.failures[0].getErrorMessage()), 409
    channels.publish("users", "user_created", asdict(user))
    return jsonify(user=asdict(user), done=[v for v in result.values if v is not None]), 201


@app.get("/happened")
def get_happened() -> ResponseReturnValue:
    """Tell what has happened so far, in order."""
    return jsonify(happened)


@app.get("/published")
def get_published() -> ResponseReturnValue:
    """Tell what was published on the channel ``users``, the newest first."""
    page = channels.history("users", limit=50, reverse=True)
    publications = [entry.publication() for entry in page.entries]
    return jsonify([{"event": told.event, "data": told.data} for told in publications])


def main() -> None:
    """Serve on the loopback address until interrupted."""
    parser = argparse.ArgumentParser(description="a Flask application with an event dispatcher")
    parser.add_argument("--port", type=int, default=5000, help="0 takes a free one")
    port = parser.parse_args().port
    setup()
    server = make_server("127.0.0.1", port, app, threaded=True)
    print(f"http://127.0.0.1:{server.server_port}/happened", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
