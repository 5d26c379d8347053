"""Something that is to be called once, later, unless that is cancelled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

__all__ = ["End"]


class _Waiting(Protocol):
    """What ends wait in."""

    def tidy(self) -> None:
        """Note that one was cancelled."""


class End:
    """One call that is to come. It is over when it has come, or was cancelled."""

    __slots__ = ("_call", "_waiting")

    def __init__(self, waiting: _Waiting, call: Callable[[], object]) -> None:
        self._waiting = waiting
        self._call: Callable[[], object] | None = call

    @property
    def is_over(self) -> bool:
        """Whether nothing will happen any more."""
        return self._call is None

    def cancel(self) -> None:
        """Let nothing happen. Nothing changes where it is over."""
        if self._call is not None:
            self._call = None
            self._waiting.tidy()

    def come(self) -> None:
        """Call what is to be called, once."""
        call, self._call = self._call, None
        if call is not None:
            call()
