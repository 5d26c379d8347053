"""Look whether what the settings name is there: the application's function and its ZCML file."""

from __future__ import annotations

from oni.channels import Channels
from oni.errors import MissingExtraError, SettingsError, ZcmlError
from oni.interfaces import IChannels, IEventDispatcher
from oni.listeners import new_dispatcher
from oni.server._application import find_application
from oni.server._listeners import switch_on
from oni.server._settings import Settings
from oni.server._watchers import check_watchers
from oni.zca import load_zcml, scratch_registry

__all__ = ["check_application"]


def check_application(settings: Settings) -> None:
    """Import what ``[app]`` names, without calling it, and load the file that ``[zca]`` names.

    Listeners and watchers are made, and closed at once. The file is loaded as the daemon does,
    into a registry that is thrown away.

    Raises:
        SettingsError: Something is not there, or cannot be loaded.
        Exception: Whatever importing the application's module raises.
    """
    application = find_application(settings)
    switch_on(settings, new_dispatcher(), None, Channels()).close()
    check_watchers(settings)
    if application.zcml is None:
        return
    from oni.server import Oni

    with scratch_registry() as registry:
        oni = Oni(settings, channels=Channels())
        registry.registerUtility(oni.dispatcher, IEventDispatcher, settings.zca.name)
        registry.registerUtility(oni.channels, IChannels, settings.zca.name)
        try:
            load_zcml(application.zcml)
        except (MissingExtraError, ZcmlError) as error:
            raise SettingsError([f"zca.zcml: {error}"]) from error
