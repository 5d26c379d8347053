"""What may be a match spec keyword."""

from __future__ import annotations

from collections.abc import Iterable

from oni.errors import InvalidKeywordError

__all__ = ["check_keyword", "checked_keywords"]

_RESERVED = ("use_weakref", "times", "timeout")


def check_keyword(keyword: str) -> str:
    """Give a keyword that may be one.

    Raises:
        InvalidKeywordError: It is an argument of ``add_event_handler``, or no identifier.
    """
    if not isinstance(keyword, str) or not keyword.isidentifier():
        raise InvalidKeywordError(keyword, "it is not an identifier")
    if keyword in _RESERVED:
        raise InvalidKeywordError(keyword, "add_event_handler has an argument of this name")
    return keyword


def checked_keywords(keywords: Iterable[str]) -> list[str]:
    """Give several keywords that may be some, each once."""
    if isinstance(keywords, str):
        raise InvalidKeywordError(keywords, "a sequence of keywords is needed, not a string")
    return list(dict.fromkeys(map(check_keyword, keywords)))
