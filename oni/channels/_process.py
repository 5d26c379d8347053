"""The channels of this process: those that are registered, or memory ones made at first use."""

from __future__ import annotations

from zope.component import getGlobalSiteManager

from oni.channels._channels import Channels
from oni.channels.backends.memory import MemoryBackend
from oni.errors import ChannelBackendError
from oni.interfaces import IChannel, IChannels

__all__ = ["MemoryChannel", "get", "process_channels"]


def process_channels() -> IChannels:
    """Give the process's channels: the global :class:`oni.interfaces.IChannels` utility.

    Where none is registered, channels in memory are made and registered, so that everybody in the
    process has the same ones.
    """
    registry = getGlobalSiteManager()
    channels: IChannels | None = registry.queryUtility(IChannels)
    if channels is None:
        channels = Channels()
        registry.registerUtility(channels, IChannels)
    return channels


def get(name: str) -> IChannel:
    """Give the process's channel of this name.

    Raises:
        ChannelNameError: No channel may have this name.
    """
    return process_channels().get(name)


def MemoryChannel(name: str) -> IChannel:
    """Give the process's channel of this name, which is in memory: what :func:`get` gives.

    A function, though it looks like a class: for another medium not the channel is subclassed, but
    its backend, and that gets a door like this one.

    Raises:
        ChannelNameError: No channel may have this name.
        ChannelBackendError: The process's channels are kept somewhere else.
    """
    channels = process_channels()
    backend = getattr(channels, "backend", None)
    if not isinstance(backend, MemoryBackend):
        raise ChannelBackendError(name, "in memory", backend)
    return channels.get(name)
