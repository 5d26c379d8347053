"""Who hears what, in which order.

No module of this room opens sockets or imports a reactor before it is needed.
"""

from oni.dispatcher._dispatcher import EventDispatcher
from oni.dispatcher._here import Awaited, Wait
from oni.dispatcher._matchers import Matcher, absent, one_of, regex, where
from oni.dispatcher._registering import registering
from oni.dispatcher._settled import settled
from oni.dispatcher._spread import Sent, Spread
from oni.dispatcher._threads import ThreadLimit, in_thread, lost_threads
from oni.dispatcher._whole import fire_whole

__all__ = [
    "Awaited",
    "EventDispatcher",
    "Matcher",
    "Sent",
    "Spread",
    "ThreadLimit",
    "Wait",
    "absent",
    "fire_whole",
    "in_thread",
    "lost_threads",
    "one_of",
    "regex",
    "registering",
    "settled",
    "where",
]
