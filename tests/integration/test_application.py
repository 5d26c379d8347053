"""What an application can do with the daemon: hear, refuse, change, answer."""

from __future__ import annotations

import json
from pathlib import Path

from tests.integration.clients import bare, needs_websockets
from tests.integration.daemon import daemon, wait_until

pytestmark = needs_websockets

APP = '[app]\nconfigure = "shop:configure"\n'


def test_the_utility_is_enough(tmp_path: Path) -> None:
    """An application that only asks for the dispatcher hears what a client publishes."""
    shop = """
from zope.component import getUtility
from oni.interfaces import IEventDispatcher

def heard(act):
    print("heard", act.event, act.data, flush=True)

def configure(oni):
    getUtility(IEventDispatcher).add_event_handler(heard, "after", action="publish")
"""
    with daemon(tmp_path, modules={"shop.py": shop}, more=APP) as running, bare(running) as client:
        assert "publish" in client.ask(id=2, publish={"channel": "news", "data": {"user": "bob"}})
        wait_until(lambda: "heard message {'user': 'bob'}" in running.log(), "the handler's turn")


def test_zcml(tmp_path: Path) -> None:
    """A ZCML file is enough too: it finds the daemon's dispatcher under the name in [zca]."""
    zcml = """
<configure xmlns="http://namespaces.zope.org/zope" xmlns:oni="http://namespaces.oni/oni">
  <oni:eventHandler
      handler="shop.heard" phase="after" dispatcher="shop"
      action="publish" />
</configure>
"""
    shop = 'def heard(act): print("heard", act.data, flush=True)\n'
    more = '[zca]\nname = "shop"\nzcml = "shop.zcml"\n'
    modules = {"shop.py": shop, "shop.zcml": zcml}
    with daemon(tmp_path, modules=modules, more=more) as running, bare(running) as client:
        client.ask(id=2, publish={"channel": "news", "data": "by zcml"})
        wait_until(lambda: "heard by zcml" in running.log(), "the handler's turn")


def test_refuse_and_change(tmp_path: Path) -> None:
    """A before handler refuses with its code and text, and what it changes is what arrives."""
    shop = """
from oni.errors import Refused

def check(act):
    if act.data.get("text") == "bad":
        raise Refused(1234, "not here")

async def stamp(act):
    act.data = {**act.data, "by": act.client[:0] or "somebody"}
    act.tags = {**act.tags, "checked": "yes"}

def configure(oni):
    add = oni.dispatcher.add_event_handler
    add(check, "before", action="publish", channel="news")
    add(stamp, "before", action="publish", channel="news")
"""
    with (
        daemon(tmp_path, modules={"shop.py": shop}, more=APP) as running,
        bare(running) as writer,
        bare(running) as reader,
    ):
        assert "subscribe" in reader.ask(id=2, subscribe={"channel": "news"})
        refused = writer.ask(id=2, publish={"channel": "news", "data": {"text": "bad"}})
        assert refused == {"id": 2, "error": {"code": 1234, "message": "not here"}}
        assert "publish" in writer.ask(id=3, publish={"channel": "news", "data": {"text": "ok"}})
        publication = reader.next()["push"]["pub"]
        assert publication["data"] == {"text": "ok", "by": "somebody"}
        assert publication["tags"]["checked"] == "yes"


def test_refusals_over_http(tmp_path: Path) -> None:
    """The HTTP API goes through the same handlers."""
    shop = """
from oni.errors import Refused
def check(act):
    if act.user == "api":
        raise Refused(1234, "not by machines")
def configure(oni):
    oni.dispatcher.add_event_handler(check, "before", action="publish")
"""
    with daemon(tmp_path, modules={"shop.py": shop}, more=APP) as running:
        answer = running.publish("news", {"text": "hello"})
        assert answer["error"]["code"] == 1234
        assert answer["error"]["message"] == "not by machines"


def test_a_handler_that_fails(tmp_path: Path) -> None:
    """The client is told nothing but that; the traceback is in the log; the daemon goes on."""
    shop = """
def broken(act):
    raise RuntimeError("the secret is 42")
def configure(oni):
    oni.dispatcher.add_event_handler(broken, "before", action="publish", times=1)
"""
    with (
        daemon(tmp_path, modules={"shop.py": shop}, more=APP, tracebacks=True) as running,
        bare(running) as client,
    ):
        reply = client.ask(id=2, publish={"channel": "news", "data": 1})
        assert reply["error"]["code"] == 100
        assert "secret" not in json.dumps(reply)
        wait_until(lambda: "the secret is 42" in running.log(), "the traceback in the log")
        assert "publish" in client.ask(id=3, publish={"channel": "news", "data": 1})


def test_channel_of_a_module(tmp_path: Path) -> None:
    """A channel that a module asks for when it is imported is the daemon's, with its history."""
    module = (
        "import oni.channels\n\n"
        'log = oni.channels.get("log")\n\n\n'
        "def configure(oni):\n"
        "    oni.answer('rpc', lambda act: log.options.history_size, 'size')\n"
    )
    more = 'history_size = 7\nhistory_ttl = 60\n[app]\nconfigure = "early:configure"\n'
    with (
        daemon(tmp_path, modules={"early.py": module}, more=more) as running,
        bare(running) as client,
    ):
        assert client.ask(id=2, rpc={"method": "size"})["rpc"]["data"] == 7
        assert "in this process already" not in running.log()
