"""Which names channels and events may have."""

from __future__ import annotations

import re

from oni.errors import ChannelNameError, EventNameError

__all__ = ["MAX_NAME", "check_event", "check_name", "namespace_of"]

#: The most characters that a name may have.
MAX_NAME = 255

_VISIBLE = re.compile(r"[!-~]+\Z")


def check_name(name: object) -> str:
    """Give a channel's name back if it is one: 1 to 255 visible ASCII characters.

    Raises:
        ChannelNameError: It is none.
    """
    if not isinstance(name, str):
        raise ChannelNameError(name, "it is not a string")
    if not name:
        raise ChannelNameError(name, "it is empty")
    if len(name) > MAX_NAME:
        raise ChannelNameError(f"{name[:32]}...", f"it is longer than {MAX_NAME} characters")
    if _VISIBLE.match(name) is None:
        raise ChannelNameError(name, "only visible ASCII characters are allowed")
    return name


def check_event(event: object) -> str:
    """Give an event's name back if it is one: 1 to 255 printable characters.

    Raises:
        EventNameError: It is none.
    """
    if type(event) is str and 0 < len(event) <= MAX_NAME and event.isprintable():
        return event
    if not isinstance(event, str):
        raise EventNameError(event, "it is not a string")
    if not event:
        raise EventNameError(event, "it is empty")
    if len(event) > MAX_NAME:
        raise EventNameError(f"{event[:32]}...", f"it is longer than {MAX_NAME} characters")
    if not event.isprintable():
        raise EventNameError(event, "only printable characters are allowed")
    return event


def namespace_of(name: str) -> str:
    """Give the part of a channel's name before its first colon, ``""`` if it has none."""
    namespace, colon, _ = name.partition(":")
    return namespace if colon else ""
