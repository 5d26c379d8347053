"""The application's answers to what only it can know: rpc, send, refresh and sub_refresh."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import maybeDeferred

from oni.server._acts import Act

__all__ = ["ANSWERED", "OWN_METHODS", "Answers"]

#: The actions that an application may answer.
ANSWERED = ("refresh", "rpc", "send", "sub_refresh")

#: The beginning of the names of rpc methods that the server answers itself.
OWN_METHODS = "oni."


class Answers:
    """One function for each action, and for each method of an rpc."""

    def __init__(self) -> None:
        self._functions: dict[tuple[str, str], Callable[[Act], Any]] = {}

    def add(self, action: str, answer: Callable[[Act], Any], method: str = "") -> None:
        """Let a function answer.

        Args:
            action: ``rpc``, ``send``, ``refresh`` or ``sub_refresh``.
            answer: Is called with the act. It returns a value, a Deferred or a coroutine.
            method: For ``rpc``: the method.

        Raises:
            ValueError: There is no such action or method to answer, or it is answered already.
            TypeError: The answer cannot be called.
        """
        if action not in ANSWERED:
            raise ValueError(f"{action!r} cannot be answered, only {', '.join(ANSWERED)}")
        if bool(method) is not (action == "rpc"):
            raise ValueError("an rpc is answered by method, and nothing else is")
        if method.startswith(OWN_METHODS):
            raise ValueError(f"methods that begin with {OWN_METHODS!r} are the server's own")
        if not callable(answer):
            raise TypeError(f"{answer!r} cannot be called")
        if (action, method) in self._functions:
            raise ValueError(f"{action} {method}".rstrip() + " is answered already")
        self._functions[action, method] = answer

    def has(self, action: str, method: str = "") -> bool:
        """Say whether there is an answer."""
        return (action, method) in self._functions

    async def ask(self, act: Act, method: str = "") -> Any:
        """Call the function for an act, and wait for what it returns."""
        return await maybeDeferred(self._functions[act.action, method], act)
