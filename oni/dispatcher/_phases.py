"""The ordered phases of a dispatcher."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from oni.errors import DuplicatePhaseError, InvalidPhaseError, UnknownPhaseError
from oni.values import Phase

__all__ = ["Phases"]


class Phases(Mapping[str, Phase]):
    """Phases by name, in order."""

    def __init__(self, phases: Iterable[str | Phase]) -> None:
        if isinstance(phases, str):
            raise InvalidPhaseError(f"phases is a sequence of phases, not the string {phases!r}")
        self._phases: dict[str, Phase] = {}
        for phase in phases:
            self.add(phase)
        if not self._phases:
            raise InvalidPhaseError("at least one phase is needed")

    def __getitem__(self, name: str) -> Phase:
        """Give a phase.

        Raises:
            UnknownPhaseError: There is none of this name.
        """
        try:
            return self._phases[name]
        except (KeyError, TypeError):
            raise UnknownPhaseError(name, self._phases) from None

    def __contains__(self, name: object) -> bool:
        """Say whether there is a phase of this name."""
        return name in self._phases

    def __iter__(self) -> Iterator[str]:
        """Give the names, in order."""
        return iter(self._phases)

    def __len__(self) -> int:
        """Count them."""
        return len(self._phases)

    def add(self, phase: str | Phase, before: str | None = None, after: str | None = None) -> None:
        """Add a phase at the end, or before or after a named one."""
        if not isinstance(phase, Phase):
            phase = Phase(phase)
        if phase.name in self._phases:
            raise DuplicatePhaseError(phase.name)
        if before is not None and after is not None:
            raise InvalidPhaseError(f"phase {phase.name!r} goes before or after one, not both")
        order = list(self._phases.values())
        place = len(order)
        if before is not None:
            place = order.index(self[before])
        elif after is not None:
            place = order.index(self[after]) + 1
        order.insert(place, phase)
        self._phases = {each.name: each for each in order}

    def remove(self, name: str) -> None:
        """Remove a phase; the last one stays.

        Raises:
            UnknownPhaseError: There is none of this name.
            InvalidPhaseError: It is the only one.
        """
        phase = self[name]
        if len(self._phases) == 1:
            raise InvalidPhaseError(f"phase {name!r} is the only one; a dispatcher needs one")
        self._phases = {n: p for n, p in self._phases.items() if p is not phase}
