"""Watchers for the tests of the daemon's settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from oni.errors import SettingsError


class Notifications:
    """Its methods are named after models, as the seed's."""

    heard: list[Any] = []  # noqa: RUF012

    def processPostCreated(self, id: int) -> None:
        """Hear of a post."""
        self.heard.append(id)


class Choosy(Notifications):
    """Has settings of its own."""

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any], task_name: str) -> Choosy:
        """Take a place, or refuse."""
        if f"{task_name}.place" not in settings:
            raise SettingsError([f"{task_name}.place: expected a place"])
        return cls()
