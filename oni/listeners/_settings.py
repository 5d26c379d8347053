"""Which listeners settings switch on, and what for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from oni.errors import SettingsError
from oni.listeners.events import ACTIONS

__all__ = ["PREFIX", "Config", "Wanted", "flat", "truth", "wanted"]

PREFIX = "event_listeners"

_DEFAULT_ACTIONS = ("create", "update", "delete")


class Config(dict[str, Any]):
    """All settings, for those that ask a mapping, and for those that ask a configurator."""

    def get_settings(self) -> Config:
        """Give them, as Pyramid's configurators do."""
        return self


@dataclass(frozen=True, slots=True)
class Wanted:
    """A listener that settings switch on.

    Attributes:
        name: What they call it.
        use: The module that makes it.
        actions: What it hears of.
        resources: Whose; none: of every resource.
    """

    name: str
    use: str
    actions: tuple[str, ...] = _DEFAULT_ACTIONS
    resources: tuple[str, ...] = ()


def flat(tables: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Turn tables, as TOML has them in ``[listeners.NAME]``, into the keys of the other form."""
    settings: dict[str, Any] = {PREFIX: list(tables)}
    for name, table in tables.items():
        for key, value in table.items():
            settings[f"{PREFIX}.{name}.{key}"] = value
    return settings


def wanted(settings: Mapping[str, Any]) -> Sequence[Wanted]:
    """Read which listeners there are to be.

    ``event_listeners`` names them, with spaces, commas or lines between; of each one
    ``event_listeners.NAME.use`` is the module, ``.actions`` what it hears of (``create``,
    ``update`` and ``delete`` if nothing is said) and ``.resources`` whose (every one's).

    Raises:
        SettingsError: Something is wrong: all of it is named.
    """
    problems: list[str] = []
    found = []
    names = _words(settings, PREFIX, (), problems)
    for name in names:
        prefix = f"{PREFIX}.{name}."
        use = settings.get(f"{prefix}use")
        if not isinstance(use, str) or not use:
            problems.append(f"{prefix}use: it must name the listener's module")
            use = ""
        actions = _words(settings, f"{prefix}actions", _DEFAULT_ACTIONS, problems)
        unknown = [action for action in actions if action not in ACTIONS]
        if unknown or not actions:
            problems.append(
                f"{prefix}actions: they are some of {', '.join(ACTIONS)}, not "
                f"{', '.join(unknown) or 'none'}"
            )
        resources = _words(settings, f"{prefix}resources", (), problems)
        found.append(Wanted(name, use, actions, resources))
    problems += _left_over(settings, names)
    if len(set(names)) < len(names):
        problems.append(f"{PREFIX}: a listener is named twice")
    if problems:
        raise SettingsError(problems)
    return found


def _left_over(settings: Mapping[str, Any], names: Iterable[str]) -> list[str]:
    """Name settings of listeners that are not switched on: most likely a slip of the pen."""
    known = tuple(f"{PREFIX}.{name}." for name in names)
    return [
        f"{key}: {PREFIX} does not name this listener"
        for key in settings
        if key.startswith(f"{PREFIX}.") and not key.startswith(known)
    ]


def _words(
    settings: Mapping[str, Any], key: str, default: tuple[str, ...], problems: list[str]
) -> tuple[str, ...]:
    value = settings.get(key, default)
    if isinstance(value, str):
        return tuple(value.replace(",", " ").split())
    if isinstance(value, list | tuple) and all(isinstance(word, str) for word in value):
        return tuple(value)
    problems.append(f"{key}: it is words, with spaces, commas or lines between, not {value!r}")
    return default


def truth(value: Any) -> bool | None:
    """Give what a setting says, as TOML or in a word; None where it is neither true nor false."""
    if isinstance(value, str):
        return _WORDS.get(value.strip().lower())
    return value if isinstance(value, bool) else None


_WORDS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
