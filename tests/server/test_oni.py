"""The server's core as an application uses it."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.testing import MemoryReactorClock
from zope.component import getGlobalSiteManager

import oni.channels
from oni.channels import Channels
from oni.errors import ReadOnlyActError, Refused, UnknownKeywordError
from oni.interfaces import IChannels
from oni.server import Oni
from oni.server._settings import ACT_PHASES, DispatcherSettings, Settings
from oni.values import Phase, Position
from tests.carriers import wire
from tests.server.house import HouseTestCase


class ActTests(HouseTestCase):
    """What handlers see and may change."""

    def test_details(self) -> None:
        """An act is matched by who does what where."""
        seen: list[Any] = []
        self.on("before", seen.append, action="publish", namespace="typed", event="added")
        client = self.connected()
        client.ask("publish", channel="typed:a", data={"type": "added"})
        client.ask("publish", channel="typed:a", data={"type": "removed"})
        (act,) = seen
        (session,) = self.oni.sessions
        self.assertEqual(
            act.details,
            {
                "action": "publish",
                "channel": "typed:a",
                "namespace": "typed",
                "event": "added",
                "user": "",
                "client": session,
            },
        )

    def test_change(self) -> None:
        """Handlers in `before` may replace data, tags and event, or change them in place."""

        def replace(act: Any) -> None:
            act.event = "said"
            act.tags = {"lang": "en"}
            act.data = {"text": act.data["text"].upper()}

        def add(act: Any) -> None:
            act.data["checked"] = True
            act.tags["by"] = "me"

        self.on("before", replace, action="publish")
        self.on("before", add, action="publish")
        client = self.connected()
        client.ask("subscribe", channel="chat")
        client.command("publish", channel="chat", data={"text": "hi"})
        pub = client.messages()[-1]["push"]["pub"]
        self.assertEqual(pub["data"], {"text": "HI", "checked": True})
        self.assertEqual(pub["tags"], {"lang": "en", "by": "me", "event": "said"})

    def test_fixed(self) -> None:
        """Who and where never change; after `before` nothing does."""
        errors: list[str] = []

        def change(*names: str) -> Any:
            def handler(act: Any) -> None:
                for name in names:
                    try:
                        setattr(act, name, "x")
                    except ReadOnlyActError as error:
                        errors.append(error.attribute)

            return handler

        fixed = ("action", "channel", "namespace", "user", "client", "token", "refusal")
        self.on("before", change(*fixed), action="publish")
        self.on("after", change("data", "tags", "event", "other"), action="publish")
        self.successResultOf(self.oni.act("publish", channel="chat", data=1))
        self.assertEqual(errors, [*fixed, "data", "tags", "event", "other"])

    def test_sealed(self) -> None:
        """What a handler does later to the data that it has seen is not published."""
        kept: list[Any] = []
        self.on("before", lambda act: kept.append(act.data), action="publish")
        self.on("during", lambda act: kept[0].append("late"), action="publish")
        data = ["early"]
        client = self.connected()
        client.ask("subscribe", channel="chat")
        self.successResultOf(self.oni.act("publish", channel="chat", data=data))
        self.assertEqual(client.messages()[0]["push"]["pub"]["data"], ["early"])

    def test_sealed_tags(self) -> None:
        """Nor can the tags be changed in place."""
        self.on("before", lambda act: act.tags.update(lang="en"), action="publish")
        refused: list[Any] = []

        def change(act: Any) -> None:
            try:
                act.tags["lang"] = "no"
            except TypeError:
                refused.append(dict(act.tags))

        self.on("during", change, action="publish")
        self.on("after", change, action="publish")
        self.successResultOf(self.oni.act("publish", channel="chat", data=1))
        self.assertEqual(refused, [{"lang": "en"}] * 2)

    def test_after_sees_all(self) -> None:
        """Handlers in `after` see what happened and what was refused."""
        seen: list[Any] = []
        self.on("after", lambda act: seen.append((act.data, act.refusal)), action="publish")
        client = self.connected()
        client.ask("publish", channel="chat", data=[1])
        client.ask("publish", channel="news:a", data=[2])
        (first, none), (second, refusal) = seen
        self.assertEqual((first, none, second), ([1], None, [2]))
        self.assertEqual(refusal.code, 103)

    def test_refused(self) -> None:
        """A handler's refusal ends the act: no further handler, no effect."""
        calls: list[str] = []

        def refuse(act: Any) -> None:
            calls.append("first")
            raise Refused(1000, "not here", temporary=True)

        self.on("before", refuse, action="publish")
        self.on("before", lambda act: calls.append("second"), action="publish")
        self.on("during", lambda act: calls.append("during"), action="publish")
        client = self.connected()
        client.ask("subscribe", channel="chat")
        self.assertEqual(
            client.ask("publish", channel="chat", data=1),
            {"code": 1000, "message": "not here", "temporary": True},
        )
        self.assertEqual(calls, ["first"])
        self.assertEqual(client.messages(), [])

    def test_failed(self) -> None:
        """Any other failure is an internal error; the details are in the log only."""

        def fail(act: Any) -> None:
            raise ZeroDivisionError("secret")

        self.on("before", fail, action="publish")
        client = self.connected()
        self.assertEqual(
            client.ask("publish", channel="chat", data=1),
            {"code": 100, "message": "internal server error", "temporary": True},
        )
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(client.ask("ping"), {})

    def test_cancelled_elsewhere(self) -> None:
        """What a handler waits for may be cancelled by somebody else: that is answered, too."""

        def give_up(act: Any) -> None:
            raise CancelledError

        self.on("before", give_up, action="publish")
        client = self.connected()
        told = client.ask("publish", channel="chat", data=1)
        self.assertEqual(told["code"], 108)
        failure = self.failureResultOf(self.oni.act("publish", channel="chat", data=1))
        self.assertIs(failure.type, Refused)

    def test_settings_come_first(self) -> None:
        """What the settings do not allow never reaches the application's handlers."""
        seen: list[Any] = []
        self.on("before", seen.append, action="publish")
        self.connected().ask("publish", channel="news:a", data=1)
        self.assertEqual(seen, [])

    def test_bad_data_from_handler(self) -> None:
        """What a handler puts into an act must be JSON, and an event's name one."""
        for name, value in (("data", object()), ("event", "x" * 300)):
            self.on("before", lambda act, n=name, v=value: setattr(act, n, v), times=1)
            failure = self.failureResultOf(
                self.oni.act("publish", channel="chat", data=1), Refused
            )
            self.assertEqual(failure.value.code, 100)
        self.assertEqual(len(self.flushLoggedErrors(TypeError, ValueError)), 2)

    def test_slow_handler(self) -> None:
        """The reply waits for handlers in `before` and for the act itself, nothing else."""
        gate: Deferred[None] = Deferred()
        self.on("before", lambda act: gate, action="publish")
        self.on("during", lambda act: Deferred(), action="publish")
        client = self.connected()
        client.command("publish", channel="chat", data=1)
        self.assertEqual(client.messages(), [])
        gate.callback(None)
        self.assertEqual(client.messages(), [{"id": 2, "publish": {}}])


class OniTests(HouseTestCase):
    """What an application may do by itself."""

    def test_publish_from_handler(self) -> None:
        """A handler publishes on a channel, and websocket subscribers hear it at once."""
        self.on(
            "during",
            lambda act: self.oni.channels.get("news:all").publish("added", {"id": act.data}),
            action="publish",
            channel="chat",
        )
        client = self.connected()
        client.ask("subscribe", channel="news:all")
        client.command("publish", channel="chat", data=7)
        pushes = [message["push"] for message in client.messages() if "push" in message]
        self.assertEqual(
            pushes,
            [
                {
                    "channel": "news:all",
                    "pub": {"data": {"id": 7}, "offset": 1, "tags": {"event": "added"}},
                }
            ],
        )

    def test_act(self) -> None:
        """An act of the application's goes through the phases and gives its position."""
        seen: list[Any] = []
        self.on("before", seen.append, action="publish", event="added", user="cron")
        client = self.connected()
        client.ask("subscribe", channel="news:a")
        position = self.successResultOf(
            self.oni.act("publish", channel="news:a", event="added", data=1, user="cron")
        )
        self.assertEqual((position.offset, len(seen)), (1, 1))
        self.assertIsInstance(position, Position)
        self.assertEqual(client.messages()[0]["push"]["pub"]["tags"], {"event": "added"})

    def test_own_action(self) -> None:
        """An action that the server does not know is the application's alone."""
        seen: list[Any] = []
        self.on("during", seen.append, action="order_placed")
        result = self.successResultOf(self.oni.act("order_placed", user="bob", data={"n": 1}))
        self.assertIsNone(result)
        self.assertEqual((seen[0].user, seen[0].data), ("bob", {"n": 1}))

    def test_session_action(self) -> None:
        """What only a session can do is refused where it was asked for."""
        for action in ("connect", "subscribe", "unsubscribe", "disconnect"):
            self.assertRaises(ValueError, self.oni.act, action)

    def test_unknown_detail(self) -> None:
        """A keyword that the settings do not name is refused."""
        failure = self.failureResultOf(self.oni.act("x", color="red"), Refused)
        self.assertEqual(failure.value.code, 100)
        self.assertEqual(len(self.flushLoggedErrors(UnknownKeywordError)), 1)

    def test_cancel(self) -> None:
        """Cancelling an act cancels its handlers, and it does not happen."""
        cancelled: list[Any] = []
        channel = self.channels.get("chat")
        self.on("before", lambda act: Deferred(cancelled.append), action="publish")
        acting = self.oni.act("publish", channel="chat", data=1)
        acting.cancel()
        self.failureResultOf(acting, CancelledError, Refused)
        self.assertEqual(len(cancelled), 1)
        self.assertEqual(self.top(channel.name).offset, 0)

    def test_not_started(self) -> None:
        """Before it is started, nothing happens and nobody is left waiting."""
        idle = Oni(self.settings, self.reactor, channels=Channels())
        failure = self.failureResultOf(idle.act("publish", channel="chat", data=1), Refused)
        self.assertEqual(failure.value.code, 108)

    def test_other_events(self) -> None:
        """The dispatcher is the application's, too: it may fire whatever it likes."""
        seen: list[Any] = []
        self.on("during", seen.append, action="mine")
        self.successResultOf(self.oni.dispatcher.fire_event("anything", action="mine"))
        self.assertEqual(seen, ["anything"])

    def test_process_channels(self) -> None:
        """Without being told otherwise, its channels are the process's."""
        registry = getGlobalSiteManager()
        if registry.queryUtility(IChannels) is None:
            self.addCleanup(registry.unregisterUtility, provided=IChannels)
        own = Oni(self.settings, self.reactor)
        self.assertIs(own.channels.get("a"), oni.channels.get("a"))

    def test_statistics(self) -> None:
        """It counts what there is."""
        client = self.connected()
        client.ask("subscribe", channel="chat")
        numbers = self.oni.statistics()
        self.assertEqual((numbers["sessions"], numbers["subscriptions"]), (1, 1))


class StopTests(HouseTestCase):
    """How it ends."""

    def test_stop(self) -> None:
        """Every client is told to come back, handlers hear of it, then all is quiet."""
        heard: list[Any] = []
        self.on("during", heard.append, action="disconnect")
        clients = [self.connected(), self.connected(), self.websocket()]
        self.successResultOf(self.oni.stop())
        for client in clients:
            self.assertEqual(wire.close_of(client.take()), (3001, "shutdown"))
        self.assertEqual(len(heard), 2)
        self.assertEqual(self.oni.sessions, {})
        self.assertEqual(self.oni.dispatcher.state, "stopped")

    def test_new_client(self) -> None:
        """Who comes while it stops is sent away, and may come back."""
        gate: Deferred[None] = Deferred()
        self.on("during", lambda act: gate, action="disconnect")
        self.connected()
        stopping = self.oni.stop()
        late = self.websocket_while_stopping()
        self.assertEqual(wire.close_of(late), (3001, "shutdown"))
        self.assertNoResult(stopping)
        gate.callback(None)
        self.successResultOf(stopping)

    def websocket_while_stopping(self) -> bytes:
        """Open a websocket, and give all that comes after the handshake."""
        from tests.server.house import Client

        client = Client(self)
        client.send(wire.upgrade())
        return wire.split_response(client.take())[1]

    def test_hurry(self) -> None:
        """Cancelling the stop cancels handlers that hang."""
        self.on("during", lambda act: Deferred(), action="disconnect")
        self.connected()
        stopping = self.oni.stop()
        stopping.addErrback(lambda failure: None)
        self.assertNoResult(stopping)
        stopping.cancel()
        self.reactor.advance(0.2)
        self.successResultOf(stopping)
        self.assertEqual(self.oni.dispatcher.state, "stopped")

    def test_again(self) -> None:
        """It may be started again."""
        self.successResultOf(self.oni.stop())
        self.successResultOf(self.oni.start())
        self.assertIn("client", self.websocket().ask("connect"))


class PhaseTests(HouseTestCase):
    """Phases and keywords that the settings add."""

    before, during, after = ACT_PHASES
    dispatcher = DispatcherSettings(
        allowed_match_spec_keywords=("role",),
        phases=(
            before,
            Phase("check", on_error="abort"),
            Phase("during", on_error="abort"),
            Phase("store"),
            after,
        ),
    )

    def test_refused_between(self) -> None:
        """A phase of the application's may refuse, too; its reply does not wait for `after`."""

        def refuse(act: Any) -> None:
            raise Refused(1000, "no")

        self.on("check", refuse, action="publish")
        self.on("after", lambda act: Deferred(), action="publish")
        client = self.connected()
        self.assertEqual(client.ask("publish", channel="chat", data=1)["code"], 1000)

    def test_reply_before_later_phases(self) -> None:
        """The reply does not wait for phases after `during`."""
        self.on("store", lambda act: Deferred(), action="publish")
        client = self.connected()
        self.assertEqual(client.ask("publish", channel="chat", data=1), {})

    def test_keyword(self) -> None:
        """Acts of the application's may have details of its own."""
        seen: list[Any] = []
        self.on("store", seen.append, role="admin")
        self.successResultOf(self.oni.act("mine", role="admin"))
        self.successResultOf(self.oni.act("mine", role="guest"))
        self.assertEqual(len(seen), 1)


class DefaultTests(HouseTestCase):
    """The settings that nobody has written."""

    def test_default_settings(self) -> None:
        """By default it can be built, and nobody may connect."""
        own = Oni(Settings(), MemoryReactorClock(), channels=Channels())
        names = [phase.name for phase in own.settings.dispatcher.phases]
        self.assertEqual(names, ["before", "during", "after"])
