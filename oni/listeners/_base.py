"""What every listener is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from oni.listeners.events import ResourceEvent

__all__ = ["ListenerBase", "own_settings"]


class ListenerBase(ABC):
    """Hears of resources' events, once it is switched on by settings.

    A module that settings name by ``use`` has a function ``load_from_config(config, prefix)``,
    which makes one: of ``config``, a mapping of all settings that ``config.get_settings()`` gives,
    too, it reads the keys that begin with ``prefix``; see :func:`own_settings`.

    Args:
        args: Are taken and left alone, so that an ``__init__`` may pass on what it was given.
        kwargs: The same.
    """

    blocks = False
    """Whether a call may block: then it is made in a thread for such calls."""

    in_reactor = False
    """Whether a call must be made in the reactor's thread."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()

    @abstractmethod
    def __call__(self, event: ResourceEvent) -> Any:
        """Hear of an event. It may return a Deferred or an awaitable, which is waited for.

        What fails is tried again, where a ledger brings the events.
        """

    def close(self) -> None:  # noqa: B027 - most have nothing to end
        """End what belongs to it. It is called once, when nothing is heard any more."""


def own_settings(config: Any, prefix: str) -> dict[str, Any]:
    """Give a listener's own settings, without the prefix, and without what is said of all.

    Args:
        config: A mapping of settings, or what has it as ``get_settings()``, as Pyramid's
            configurators do.
        prefix: ``"event_listeners.NAME."``.
    """
    get_settings = getattr(config, "get_settings", None)
    settings: Mapping[str, Any] = config if get_settings is None else get_settings()
    own = {
        name.removeprefix(prefix): value
        for name, value in settings.items()
        if name.startswith(prefix)
    }
    return {name: value for name, value in own.items() if name not in _COMMON}


_COMMON = frozenset({"use", "actions", "resources"})
