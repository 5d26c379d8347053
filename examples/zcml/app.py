"""A dispatcher and its handlers, put together by ``app.zcml``.

Run it with ``python examples/zcml/app.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import zope.event
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater, react

from oni.dispatcher import one_of
from oni.zca import bridge, get_dispatcher, load_zcml

STAFF = one_of("admin", "clerk")


class UserEvent(NamedTuple):
    """Something happened to a user."""

    event_type: str
    user: str
    role: str


def welcome(event: UserEvent) -> Deferred[None]:
    """Welcome a new user, after a while."""
    from twisted.internet import reactor

    return deferLater(reactor, 0.01, print, f"welcome, {event.user}")


async def give_keys(event: UserEvent) -> None:
    """Give somebody of the staff their keys."""
    print(f"keys for {event.user}")


def log(event: UserEvent) -> None:
    """Write everything down."""
    print(f"log: {event.event_type} {event.user}")


def details(obj: Any) -> Mapping[str, Any] | None:
    """Give what user events are matched by; other objects are not for this dispatcher."""
    return obj._asdict() if isinstance(obj, UserEvent) else None


async def main(reactor: Any) -> None:
    """Announce two events with zope.event, and wait for their handlers."""
    load_zcml(Path(__file__).with_name("app.zcml"))
    users = bridge(get_dispatcher("users"), details)
    zope.event.notify(UserEvent("user_created", "bob", "admin"))
    zope.event.notify(UserEvent("user_created", "susan", "user"))
    await users.idle()
    users.close()


if __name__ == "__main__":
    import app  # by the name that app.zcml uses, so that there is one module and not two

    react(app.main)
