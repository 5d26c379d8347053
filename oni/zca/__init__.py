"""Dispatchers in the Zope Component Architecture: as utilities, in ZCML, and behind its events.

* :func:`provide` and :func:`get_dispatcher` register and find a dispatcher as a utility;
* :func:`load_zcml` loads a ZCML file with the directives ``oni:eventDispatcher`` and
  ``oni:eventHandler`` (needs the extra ``zcml``);
* :func:`scratch_registry` lets such a file be tried without registering anything;
* :func:`bridge` fires at a dispatcher what ``zope.event.notify`` announces;
* :func:`notify_async` runs the asynchronous handlers of a component registry.
"""

from oni.zca._bridge import Bridge, bridge
from oni.zca._load import load_zcml
from oni.zca._notify import notify_async
from oni.zca._utility import get_dispatcher, provide, scratch_registry, unprovide

__all__ = [
    "Bridge",
    "bridge",
    "get_dispatcher",
    "load_zcml",
    "notify_async",
    "provide",
    "scratch_registry",
    "unprovide",
]
