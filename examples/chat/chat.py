"""The chat's rules: everybody has a name, and a message is a text that is not empty."""

from __future__ import annotations

from oni.errors import Refused
from oni.server import Act, Grant, Oni

LONGEST_NAME = 20
LONGEST_TEXT = 500


def let_in(act: Act) -> None:
    """Take the name that a client brings. From now on it goes with all that the client says."""
    name = _text(act, "name", LONGEST_NAME)
    act.grant = Grant(info={"name": name})


def tidy(act: Act) -> None:
    """Accept nothing but a text, without the space around it."""
    act.data = {"text": _text(act, "text", LONGEST_TEXT)}


def _text(act: Act, field: str, longest: int) -> str:
    text = act.data.get(field) if isinstance(act.data, dict) else None
    text = text.strip() if isinstance(text, str) else ""
    if not 0 < len(text) <= longest:
        raise Refused(1000, f"{field}: a text of 1 to {longest} characters, please")
    return text


def configure(oni: Oni) -> None:
    """Register the rules."""
    oni.dispatcher.add_event_handler(let_in, "before", action="connect")
    oni.dispatcher.add_event_handler(tidy, "before", action="publish", namespace="chat")
