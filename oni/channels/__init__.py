"""Channels: named streams of publications, and who hears them.

:func:`get` gives a channel of this process::

    channel = oni.channels.get("lobby")
    yield channel.publish("user_created", {"user": "bob"})
"""

from __future__ import annotations

from oni.channels._channel import Channel
from oni.channels._channels import Channels
from oni.channels._entry import Entry
from oni.channels._names import MAX_NAME, check_event, check_name, namespace_of
from oni.channels._process import MemoryChannel, get, process_channels
from oni.channels._recovery import MAX_RECOVERED
from oni.channels.backends import backend_for

__all__ = [
    "Channel",
    "Channels",
    "Entry",
    "MAX_NAME",
    "MAX_RECOVERED",
    "MemoryChannel",
    "backend_for",
    "check_event",
    "check_name",
    "get",
    "namespace_of",
    "process_channels",
]
