"""Permissions: who may subscribe, publish, and read what is kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal, TypeAlias

from msgspec import Meta

__all__ = ["Standing", "WhoMay", "WhoSubscribes", "demands", "is_let_in", "permits"]

#: Who may do something on a channel. Of a list, all must hold.
WhoMay: TypeAlias = (
    bool
    | Literal["authenticated", "subscriber"]
    | Annotated[tuple[Literal["authenticated", "subscriber"], ...], Meta(min_length=1)]
)

#: Who may subscribe to a channel. Of a list, all must hold.
WhoSubscribes: TypeAlias = (
    bool
    | Literal["authenticated", "token"]
    | Annotated[tuple[Literal["authenticated", "token"], ...], Meta(min_length=1)]
)

#: Says whether somebody is ``authenticated``, a ``subscriber``, or has brought a ``token``.
Standing: TypeAlias = Callable[[str], bool]

_BOUNDARY, _BETWEEN = "#", ","


def permits(rule: bool | str | tuple[str, ...], standing: Standing) -> bool:
    """Say whether somebody meets a rule.

    Args:
        rule: Everybody, nobody, or what all must hold.
        standing: What holds for somebody.
    """
    if isinstance(rule, bool):
        return rule
    return all(map(standing, (rule,) if isinstance(rule, str) else rule))


def demands(rule: bool | str | tuple[str, ...], what: str) -> bool:
    """Say whether a rule is met by nobody without this."""
    return rule == what or (isinstance(rule, tuple) and what in rule)


def is_let_in(channel: str, user: str) -> bool:
    """Say whether a channel's name lets a user in.

    A name with a ``#`` is personal: behind the first one are the users to whom it belongs, with
    commas between them. Nobody else comes in, least of all somebody without a name.
    """
    _, boundary, users = channel.partition(_BOUNDARY)
    return not boundary or (bool(user) and user in users.split(_BETWEEN))
