"""The synchronous face of dispatcher, channels and event sources: plain calls in any other thread.

A program that is not written for Twisted (a Flask application, a script) calls :func:`setup`
once, which runs the reactor in a thread of its own by way of crochet, and then talks to a
dispatcher through :class:`BlockingEventDispatcher`, to channels through :class:`BlockingChannels`,
and to event sources through :class:`BlockingEventSources`. Any thread but the reactor's may call.
"""

from oni.blocking._channels import BlockingChannels
from oni.blocking._event_dispatcher import BlockingEventDispatcher
from oni.blocking._event_sources import BlockingEventSources
from oni.blocking._here import fire_here
from oni.blocking._reactor_thread import setup

__all__ = [
    "BlockingChannels",
    "BlockingEventDispatcher",
    "BlockingEventSources",
    "fire_here",
    "setup",
]
