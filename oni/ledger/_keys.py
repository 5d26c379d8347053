"""Keys: what makes an event the same as another, and what may be one."""

from __future__ import annotations

from uuid import UUID

from oni.errors import LedgerKeyError, LedgerPayloadError
from oni.values import LedgerEvent

__all__ = ["MAX_KEY_BYTES", "MAX_PAYLOAD_BYTES", "check_event", "check_key", "pair_key"]

MAX_KEY_BYTES = 255
MAX_PAYLOAD_BYTES = 64 * 1024


def pair_key(group: str, id: int | str | UUID) -> str:
    """Make the key of a group's event about one thing.

    The group's length in bytes stands in front, so that no two pairs have the same key:
    ``("a_b", 1)`` is ``"3:a_b1"``, and ``("a", "b_1")`` is ``"1:ab_1"``. A number is the same as
    its text.

    Args:
        group: The event's group.
        id: Says which thing it is about, among all that the group's events may be about.

    Raises:
        LedgerKeyError: One of them is empty or of another type, or both are over 255 bytes.
    """
    # A bool is an int, and surely a mistake.
    if isinstance(id, bool) or not isinstance(id, int | str | UUID):
        raise LedgerKeyError(id, f"an id is an int, a str or a UUID, not a {type(id).__name__}")
    text = str(id)
    size = len(_encode(group, group))
    _encode(text, id)
    return check_key(f"{size}:{group}{text}")


def check_key(key: str) -> str:
    """Give a key back, if it can be one: 1 to 255 bytes of UTF-8 without NUL. It is never cut.

    Raises:
        LedgerKeyError: It cannot.
    """
    size = len(_encode(key, key))
    if size > MAX_KEY_BYTES:
        raise LedgerKeyError(key, f"it has {size} bytes, and may have {MAX_KEY_BYTES}")
    return key


def check_event(event: LedgerEvent) -> LedgerEvent:
    """Give an event back, if a ledger can keep it.

    Raises:
        LedgerKeyError: The key, the group or a handler's name cannot be one.
        LedgerPayloadError: The payload is too large.
    """
    check_key(event.key)
    if event.group:
        check_key(event.group)
    size = len(event.payload)
    if size > MAX_PAYLOAD_BYTES:
        raise LedgerPayloadError(event.key, size, MAX_PAYLOAD_BYTES)
    names = [check_handler(handling.handler) for handling in event.handlings]
    if len(set(names)) < len(names):
        raise LedgerKeyError(event.key, f"a handler is named twice: {', '.join(sorted(names))}")
    return event


def check_handler(name: str) -> str:
    """Give a handler's name back, if it can be one.

    Raises:
        LedgerKeyError: It cannot: it is a part of idempotency keys, which are parted by slashes.
    """
    check_key(name)
    if "/" in name:
        raise LedgerKeyError(name, "a handler's name has no slash")
    return name


def _encode(text: str, given: object) -> bytes:
    if not isinstance(text, str):
        raise LedgerKeyError(given, f"it is text, not a {type(text).__name__}")
    if not text:
        raise LedgerKeyError(given, "it is empty")
    if "\0" in text:
        raise LedgerKeyError(given, "it has a NUL in it, which databases do not keep")
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise LedgerKeyError(given, "it cannot be written as UTF-8") from error
