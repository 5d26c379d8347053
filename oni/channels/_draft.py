"""What is published, checked and encoded where it is published."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import msgspec

from oni.channels._names import check_event
from oni.values import ClientInfo, Draft

__all__ = ["draft_of"]


_NO_TAGS: Mapping[str, str] = MappingProxyType({})


def draft_of(
    event: str,
    data: Any,
    tags: Mapping[str, str] | None = None,
    info: ClientInfo | None = None,
    exclude: str = "",
) -> Draft:
    """Make a draft, which nobody can change any more.

    Raises:
        EventNameError: No event may have this name.
        TypeError: The data or a tag is not JSON.
    """
    check_event(event)
    encoded = bytes(data) if isinstance(data, msgspec.Raw) else _encode(data)
    return Draft(event, encoded, _checked(tags) if tags else _NO_TAGS, info, exclude)


def _encode(data: Any) -> bytes:
    try:
        return msgspec.json.encode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise TypeError(f"the data is not JSON: {error}") from error


def _checked(tags: Mapping[str, str]) -> Mapping[str, str]:
    for name, tag in tags.items():
        if not isinstance(name, str) or not isinstance(tag, str):
            raise TypeError(f"tags are strings by name, not {name!r}: {tag!r}")
    return MappingProxyType(dict(tags))
