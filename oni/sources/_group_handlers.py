"""Group handlers: what is said of each, and which of them an event is for. Any thread may ask."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from threading import RLock
from typing import Any

from oni.errors import GroupHandlerNameError, UnknownGroupHandlerError, UnknownPhaseError
from oni.values import Delivery, Handling, OnCrash, Phase

__all__ = ["GroupHandler", "GroupHandlers"]

_MOST_GROUPS = 10_000  # of which it is remembered whom they are for

_STRIDE = 1_000  # ranks of a phase whose handlers run one after another


@dataclass(frozen=True, slots=True, eq=False)
class GroupHandler:
    """A handler of events whose group fits a regular expression.

    Attributes:
        name: Its name in the ledger.
        pattern: Is searched in an event's group.
        function: What is called.
        phase: In which phase.
        times: For how many admitted events, or None for any number.
        on_crash: What becomes of its deliveries when their process dies.
        max_attempts: After so many attempts a delivery is dead.
        timeout: Seconds that one call may last, or None.
        threaded: Whether it is called in a thread.
        at: Where it was registered: file and line.
    """

    name: str
    pattern: re.Pattern[str]
    function: Callable[..., Any]
    phase: str
    times: int | None
    on_crash: OnCrash
    max_attempts: int
    timeout: float | None
    threaded: bool
    at: tuple[str, int]

    def __str__(self) -> str:
        """Name it and where it was registered."""
        return f"{self.name} (registered at {self.at[0]}:{self.at[1]})"


class GroupHandlers:
    """Every registered group handler, in the order of registration.

    Args:
        phases: The phases that a handler may be in.
    """

    def __init__(self, phases: Sequence[Phase]) -> None:
        self._lock = RLock()
        self._phases = {phase.name: phase for phase in phases}
        self._places = {phase.name: place for place, phase in enumerate(phases)}
        # Without phases in which handlers run one after another a rank is its phase's place.
        self._stride = 1 if all(phase.concurrent for phase in phases) else _STRIDE
        # Never changed, only replaced, so that other threads read it as it is.
        self._by_name: Mapping[str, GroupHandler] = {}
        self._shots: dict[str, int] = {}
        self._by_group: dict[str, tuple[GroupHandler, ...]] = {}

    # --- Registration

    def add(self, handler: GroupHandler) -> None:
        """Take a handler.

        Raises:
            GroupHandlerNameError: Another one has its name.
            UnknownPhaseError: There is no such phase.
        """
        if handler.phase not in self._phases:
            raise UnknownPhaseError(handler.phase, self._phases)
        with self._lock:
            taken = self._by_name.get(handler.name)
            if taken is not None:
                raise GroupHandlerNameError(
                    handler.name,
                    f"the one registered at {taken.at[0]}:{taken.at[1]} has it; "
                    f"give one of them another: name=...",
                )
            self._by_name = {**self._by_name, handler.name: handler}
            self._by_group = {}
            if handler.times is not None:
                self._shots[handler.name] = handler.times

    def remove(self, name: str) -> None:
        """Forget a handler.

        Raises:
            UnknownGroupHandlerError: There is none of this name.
        """
        with self._lock:
            if name not in self._by_name:
                raise UnknownGroupHandlerError(name)
            self._by_name = {each: h for each, h in self._by_name.items() if each != name}
            self._by_group = {}
            self._shots.pop(name, None)

    @property
    def by_name(self) -> Mapping[str, GroupHandler]:
        """All of them. It is another object after each change, and does not change itself."""
        return self._by_name

    # --- Events

    def matching(self, group: str) -> tuple[GroupHandler, ...]:
        """Give those that a group's events are for, used up or not."""
        # Taken first: after each change there is another one, and what is kept in an old one is
        # of no consequence.
        by_group = self._by_group
        found = by_group.get(group)
        if found is None:
            handlers = self._by_name.values()
            found = tuple(each for each in handlers if each.pattern.search(group))
            if len(by_group) >= _MOST_GROUPS:
                by_group.clear()
            by_group[group] = found
        return found

    def handlings(self, group: str) -> tuple[tuple[Handling, ...], tuple[str, ...]]:
        """Say by whom an event is to be handled, and use up what is counted.

        Returns:
            The handlings, and the names of those handlers of which a time was used up by it: to
            be given back with :meth:`give_back` if the event is none that counts.
        """
        handlings = []
        used = []
        places = dict.fromkeys(self._phases, 0)
        for handler in self.matching(group):
            if handler.times is not None:
                if not self._use(handler.name):
                    continue
                used.append(handler.name)
            rank = self._places[handler.phase] * self._stride
            if not self._phases[handler.phase].concurrent:
                rank += min(places[handler.phase], self._stride - 1)
                places[handler.phase] += 1
            handlings.append(Handling(handler.name, handler.on_crash, handler.max_attempts, rank))
        return tuple(handlings), tuple(used)

    def counts(self, group: str) -> bool:
        """Say whether a group's events use something up."""
        return any(handler.times is not None for handler in self.matching(group))

    def remaining(self, name: str) -> int | None:
        """Say for how many more events a handler is, or None for any number."""
        return self._shots.get(name)

    def _use(self, name: str) -> bool:
        with self._lock:
            left = self._shots.get(name, 0)
            if left:
                self._shots[name] = left - 1
            return left > 0

    def give_back(self, names: Iterable[str]) -> None:
        """Let an event not have counted after all."""
        with self._lock:
            for name in names:
                if name in self._shots:
                    self._shots[name] += 1

    # --- Phases

    def phase_of(self, delivery: Delivery) -> Phase | None:
        """Give the phase of a delivery: its handler's, or what its rank stands for.

        The ranks may have been given by a program that had other phases.
        """
        handler = self._by_name.get(delivery.handler)
        if handler is not None:
            return self._phases[handler.phase]
        phases = list(self._phases.values())
        place = delivery.rank // self._stride
        return phases[place] if place < len(phases) else None

    @property
    def aborts(self) -> bool:
        """Whether there is a phase whose failures keep later ones from being entered."""
        return any(phase.on_error == "abort" for phase in self._phases.values())
