"""What is said to a worker: JSON, in which what JSON does not know is tagged."""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import isfinite
from typing import Any, Literal, cast

from msgspec import Struct

from oni._tags import SCALARS, UNREADABLE
from oni.errors import UnreadableMessageError, UnsendableError
from oni.values import UNKNOWN

__all__ = ["Heard", "NewerMessageError", "read", "write"]

VERSION = 1
"""The version of what is written. What has a higher one is for a newer program."""

_DEEPEST = 64  # one in the other
_LARGEST_BITS = 8192  # of a whole number; Python reads none of more than 4300 digits

Action = Literal["created", "modified", "deleted"]

_ACTIONS = ("created", "modified", "deleted")


class NewerMessageError(Exception):
    """A newer program wrote it, which will know what it means.

    Attributes:
        key: Its key.
    """

    def __init__(self, key: str, version: int) -> None:
        super().__init__(f"a message has version {version}, and {VERSION} is known here")
        self.key = key


class Heard(Struct, frozen=True):
    """What has become of a row, and the key by which it is known if it is heard of again.

    Attributes:
        key: The same for every message about it.
        model: The model's name.
        action: ``"created"``, ``"modified"`` or ``"deleted"``.
        id: The row's primary key.
        details: See :class:`oni.interfaces.IModelEventWatcher`.
    """

    key: str
    model: str
    action: Action
    id: Any
    details: Mapping[str, Any]


# --- Writing


def write(heard: Heard) -> str:
    """Give it as JSON.

    Raises:
        UnsendableError: It has a value that JSON cannot say.
    """

    def plain(field: str, value: Any, depth: int = 0) -> Any:
        if value is None or type(value) in (str, bool):
            return value
        if value is UNKNOWN:
            return {"$unknown": True}
        if depth > _DEEPEST:
            raise UnsendableError(
                heard.model, field, f"it is one of more than {_DEEPEST} in each other"
            )
        if isinstance(value, float) and isfinite(value):
            return float(value)
        if isinstance(value, int) and value.bit_length() <= _LARGEST_BITS:
            return int(value)
        if isinstance(value, str):
            return str.__str__(value)
        if isinstance(value, Mapping):
            return with_names(field, value, depth)
        if isinstance(value, list | tuple):
            each = [plain(f"{field}[{n}]", one, depth + 1) for n, one in enumerate(value)]
            return {"$tuple": each} if isinstance(value, tuple) else each
        for kind, (tag, say, _) in SCALARS.items():
            if isinstance(value, kind):
                return {tag: say(value)}
        if isinstance(value, int | float):
            reason = "JSON has no such number"
        else:
            reason = f"JSON does not know a {type(value).__qualname__}"
        raise UnsendableError(heard.model, field, reason)

    def with_names(field: str, value: Mapping[Any, Any], depth: int) -> Any:
        said = {}
        for name, one in value.items():
            if not isinstance(name, str):
                raise UnsendableError(heard.model, f"{field}[{name!r}]", "a name in JSON is text")
            said[str.__str__(name)] = plain(f"{field}.{name}", one, depth + 1)
        if len(said) == 1 and next(iter(said)).startswith("$"):
            return {"$dict": [list(item) for item in said.items()]}
        return said

    if not isinstance(heard.key, str):
        raise UnsendableError(heard.model, "details.key", "a key is text")
    message = {
        "v": VERSION,
        "key": heard.key,
        "model": heard.model,
        "action": heard.action,
        "id": plain("id", heard.id),
        "details": plain("details", heard.details),
    }
    return json.dumps(message, sort_keys=True, separators=(",", ":"))


# --- Reading

_READERS = {
    **{tag: read for tag, _, read in SCALARS.values()},
    "$dict": dict,
    "$tuple": tuple,
    "$unknown": lambda said: UNKNOWN,
}


def read(text: Any) -> Heard:
    """Give what was written.

    Raises:
        NewerMessageError: A newer program wrote it.
        UnreadableMessageError: It was not written here.
    """
    try:
        plain = json.loads(text)
        version = plain["v"]
        if isinstance(version, int) and version > VERSION:
            raise NewerMessageError(str(plain["key"]), version)
        said = json.loads(text, object_hook=_untagged)
        heard = Heard(said["key"], said["model"], said["action"], said["id"], said["details"])
        if version == VERSION and _is_one(heard):
            return heard
    except UNREADABLE as error:
        raise UnreadableMessageError(f"{type(error).__name__}: {error}") from error
    raise UnreadableMessageError("it is no change of a model")


def _untagged(found: dict[str, Any]) -> Any:
    """Give what an object of JSON stands for; the innermost ones come first."""
    if len(found) != 1:
        return found
    (tag,) = found
    return cast(Any, _READERS[tag])(found[tag]) if tag.startswith("$") else found


def _is_one(heard: Heard) -> bool:
    is_named = all(isinstance(name, str) and name for name in (heard.key, heard.model))
    return is_named and heard.action in _ACTIONS and isinstance(heard.details, dict)
