"""An application for the daemon: it looks at what is published, changes it, and answers.

Put this file beside ``oni.toml`` and name it there::

    [app]
    configure = "shop:configure"
"""

from oni.errors import Refused


def configure(oni):
    """Register the handlers. It is called once, before anything listens."""

    def tidy(act):
        """Take the space around a chat message away; only ``before`` handlers may change data."""
        act.data = {**act.data, "text": act.data["text"].strip()}

    def mind_your_language(act):
        """Refuse a chat message; its sender gets code and text, nobody else gets anything."""
        if "darn" in act.data["text"]:
            raise Refused(1000, "mind your language")

    async def welcome(act):
        """Answer a new user; what a handler publishes reaches every subscriber."""
        name = act.data["user"]
        await oni.channels.get("news").publish("welcome", {"text": f"Welcome, {name}!"})

    add = oni.dispatcher.add_event_handler
    add(mind_your_language, "before", action="publish", namespace="chat")
    add(tidy, "before", action="publish", namespace="chat")
    add(welcome, "after", action="publish", event="user_created")
