"""A module with a subscriber, as an application has it: a scan finds it."""

from __future__ import annotations

from pyramid.events import subscriber

from oni.listeners import ResourceChanged

heard: list[ResourceChanged] = []


@subscriber(ResourceChanged, for_actions="create", for_resources=("article",))
def hear(event: ResourceChanged) -> None:
    """Hear of a new article."""
    heard.append(event)
