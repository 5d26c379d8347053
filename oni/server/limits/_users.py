"""How many sessions each user has."""

from __future__ import annotations

__all__ = ["Users"]


class Users:
    """Counts sessions by their user. Those that nobody knows are not counted.

    Args:
        most: How many one user may have.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._counts: dict[str, int] = {}

    def __len__(self) -> int:
        """Count the users that have sessions."""
        return len(self._counts)

    def enter(self, user: str) -> bool:
        """Count a session, if its user may have one more."""
        if not user:
            return True
        count = self._counts.get(user, 0)
        if count >= self._most:
            return False
        self._counts[user] = count + 1
        return True

    def leave(self, user: str) -> None:
        """Count a session no more."""
        count = self._counts.get(user, 0)
        if count > 1:
            self._counts[user] = count - 1
        else:
            self._counts.pop(user, None)
