"""A client's session, from its first command to its disconnect."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from oni.errors import Refused
from oni.protocol import CLOSES
from oni.server._intake import MAX_ACTS, MAX_COMMANDS
from oni.server._session import new_client_id
from oni.server._settings import ServerSettings
from tests.carriers import wire
from tests.server.house import HouseTestCase

CHANNELS = st.sampled_from(["kept:a", "kept:b", "few:a", "chat", "log:x", "nowhere:x", "", "a b"])
SINCE = st.fixed_dictionaries({}, optional={"offset": st.integers(0, 9), "epoch": st.text()})
FLAGS = dict.fromkeys(("positioned", "recoverable", "join_leave"), st.booleans())
COMMANDS = st.one_of(
    st.builds(
        lambda channel, more: {"subscribe": {"channel": channel, **more}},
        CHANNELS,
        st.fixed_dictionaries(
            {},
            optional={
                "recover": st.booleans(),
                "offset": st.integers(0, 2**63),
                "epoch": st.text(),
                "flag": st.integers(0, 3),
                "type": st.integers(0, 1),
                "tf": st.fixed_dictionaries({"key": st.just("k"), "cmp": st.text()}),
                **FLAGS,
            },
        ),
    ),
    st.builds(
        lambda method, channel: {method: {"channel": channel}},
        st.sampled_from(["unsubscribe", "presence", "presence_stats", "sub_refresh"]),
        CHANNELS,
    ),
    st.builds(lambda channel: {"publish": {"channel": channel, "data": 1}}, CHANNELS),
    st.builds(
        lambda channel, limit, since, reverse: {
            "history": {"channel": channel, "limit": limit, "since": since, "reverse": reverse}
        },
        CHANNELS,
        st.integers(-1, 400),
        st.none() | SINCE,
        st.booleans(),
    ),
    st.builds(
        lambda channel, event: {
            "rpc": {
                "method": "oni.publish",
                "data": {"channel": channel, "event": event, "data": 1},
            }
        },
        CHANNELS,
        st.text(),
    ),
    st.sampled_from(
        [{"ping": {}}, {"rpc": {"method": "x"}}, {"refresh": {"token": ""}}, {"dance": {}}]
    ),
    st.just({"connect": {}}),
)


class ClientIdTests(SynchronousTestCase):
    """Tests of :func:`oni.server._session.new_client_id`."""

    def test_short(self) -> None:
        """All differ, and consist of 22 characters that mean nothing in an URL."""
        ids = [new_client_id() for _ in range(2000)]
        self.assertEqual(len(set(ids)), len(ids))
        for one in ids:
            self.assertRegex(one, r"\A[A-Za-z0-9_-]{22}\Z")
        self.assertGreaterEqual(set("".join(ids)), set("-_09azAZ"))


class ConnectTests(HouseTestCase):
    """How a session begins."""

    def test_connect(self) -> None:
        """The reply tells the session's id, and how often the server asks whether it is there."""
        client = self.websocket()
        reply = client.ask("connect", name="test", data={"a": 1})
        (session,) = self.oni.sessions.values()
        self.assertEqual(
            reply, {"client": session.client, "version": "oni", "ping": 25, "pong": True}
        )
        self.assertTrue(session.is_open)

    def test_first_command(self) -> None:
        """Anything before connect closes the connection for good."""
        for data in (
            wire.command(id=1, subscribe={"channel": "a"}),
            wire.command(id=1, history={}),
            wire.command(id=1, publish={"channel": 7}),
        ):
            client = self.websocket()
            client.send(data)
            self.assertEqual(wire.close_of(client.take()), (3501, "bad request"))

    def test_twice(self) -> None:
        """A second connect closes the connection."""
        client = self.connected()
        client.command("connect")
        self.assertEqual(wire.close_of(client.take()), (3501, "bad request"))

    def test_token(self) -> None:
        """A token that cannot be proven is refused."""
        client = self.websocket()
        client.command("connect", token="x")
        data = client.take()
        self.assertEqual(wire.messages(data)[0]["error"]["code"], 101)
        self.assertEqual(wire.close_of(data), (3500, "invalid token"))

    def test_stale(self) -> None:
        """Who does not connect in time is disconnected."""
        client = self.websocket()
        self.reactor.advance(9.9)
        self.assertIsNone(wire.close_of(client.take()))
        self.reactor.advance(0.2)
        self.assertEqual(wire.close_of(client.take()), (3502, "stale"))
        self.assertEqual(self.oni.sessions, {})

    def test_refused_by_handler(self) -> None:
        """A handler's refusal is the reply; its code says whether the client comes back."""
        for error, close in (
            (Refused(1000, "not you"), (3507, "permission denied")),
            (Refused(1001, "later", temporary=True), (3000, "connection closed")),
        ):
            self.on("before", _raise(error), times=1, action="connect")
            client = self.websocket()
            client.command("connect")
            data = client.take()
            told = wire.messages(data)[0]["error"]
            self.assertEqual((told["code"], told["message"]), (error.code, error.message))
            self.assertEqual(wire.close_of(data), close)
            self.assertEqual(self.oni.sessions, {})

    def test_commands_wait(self) -> None:
        """While the connect is being handled, further commands wait, in order."""
        gate: Deferred[None] = Deferred()
        self.on("before", lambda act: gate, action="connect")
        client = self.websocket()
        client.send(
            wire.frame(
                '{"id":1,"connect":{}}\n{"id":2,"subscribe":{"channel":"a"}}\n'
                '{"id":3,"publish":{"channel":"a","data":1}}\n{"id":4,"ping":{}}'
            )
        )
        self.assertEqual(client.messages(), [])
        gate.callback(None)
        names = [_name(message) for message in client.messages()]
        self.assertEqual(names, ["connect", "subscribe", "publish", "ping", "pub"])

    def test_many_commands_wait(self) -> None:
        """While connecting, a client that sends much is not read from, and none of it is lost."""
        gate: Deferred[None] = Deferred()
        self.on("before", lambda act: gate, action="connect")
        client = self.websocket()
        client.command("connect")
        for _ in range(MAX_ACTS):
            self.assertEqual(client.transport.producerState, "producing")
            client.command("ping")
        self.assertEqual(client.transport.producerState, "paused")
        gate.callback(None)
        self.assertEqual(len(client.messages()), 1 + MAX_ACTS)
        self.assertEqual(client.transport.producerState, "producing")

    def test_too_many_commands(self) -> None:
        """The commands that wait are bounded."""
        gate: Deferred[None] = Deferred()
        self.on("before", lambda act: gate, action="connect")
        client = self.websocket()
        client.command("connect")
        client.send(wire.frame("\n".join(['{"id":9,"ping":{}}'] * (MAX_COMMANDS + 1))))
        self.assertEqual(wire.close_of(client.take()), (3013, "too many requests"))

    def test_gone_while_connecting(self) -> None:
        """A client that leaves while its connect is handled was never there."""
        gate: Deferred[None] = Deferred()
        heard: list[Any] = []
        self.on("before", lambda act: gate, action="connect")
        self.on("during", heard.append, action="disconnect")
        client = self.websocket()
        client.command("connect")
        client.vanish()
        self.reactor.advance(0)
        self.assertEqual(self.oni.sessions, {})
        self.assertEqual(heard, [])
        self.assertEqual(self.reactor.getDelayedCalls(), self.idle)


class StrangerTests(HouseTestCase):
    """A server that is closed."""

    anonymous = False

    def test_anonymous(self) -> None:
        """Without a word in the settings nobody may connect."""
        client = self.websocket()
        client.command("connect")
        data = client.take()
        self.assertEqual(
            wire.messages(data), [{"id": 1, "error": {"code": 101, "message": "unauthorized"}}]
        )
        self.assertEqual(wire.close_of(data), (3500, "invalid token"))


class CommandTests(HouseTestCase):
    """What a client may ask for."""

    def test_publish_and_hear(self) -> None:
        """Who is subscribed hears what others publish, and itself, with who it was."""
        first, second = self.connected(), self.connected()
        for client in (first, second):
            self.assertIn("epoch", client.ask("subscribe", channel="chat"))
        number = first.command("publish", channel="chat", data={"text": "hi"})
        (push,) = second.messages()
        publication = push["push"]["pub"]
        self.assertEqual(push["push"]["channel"], "chat")
        self.assertEqual(publication["data"], {"text": "hi"})
        self.assertEqual(publication["tags"], {"event": "message"})
        self.assertEqual(publication["offset"], 1)
        self.assertIn(publication["info"]["client"], self.oni.sessions)
        self.assertEqual(first.messages(), [{"id": number, "publish": {}}, push])

    def test_event_from(self) -> None:
        """Where the namespace says so, a field of the data names the event."""
        client = self.connected()
        client.ask("subscribe", channel="typed:a")
        for data, event in (
            ({"type": "added"}, "added"),
            ({"type": 3}, "message"),
            ({"other": "x"}, "message"),
            (["type"], "message"),
        ):
            client.command("publish", channel="typed:a", data=data)
            self.assertEqual(client.messages()[-1]["push"]["pub"]["tags"], {"event": event})
        error = client.ask("publish", channel="typed:a", data={"type": ""})
        self.assertEqual(error["code"], 107)
        self.assertIn("publish.data.type", error["message"])

    def test_unsubscribe(self) -> None:
        """After the reply to an unsubscribe nothing comes of the channel."""
        client = self.connected()
        client.ask("subscribe", channel="chat")
        self.assertEqual(client.ask("unsubscribe", channel="chat"), {})
        self.channels.get("chat").publish("x", 1)
        self.assertEqual(client.messages(), [])
        self.assertEqual(client.ask("unsubscribe", channel="chat"), {})
        self.assertEqual(self.channels.statistics()["subscriptions"], 0)

    def test_refused(self) -> None:
        """What the settings do not allow is refused, each with its code."""
        client = self.connected()
        client.ask("subscribe", channel="chat")
        for method, members, code in (
            ("subscribe", {"channel": "chat"}, 105),
            ("subscribe", {"channel": "nowhere:x"}, 102),
            ("publish", {"channel": "nowhere:x", "data": 1}, 102),
            ("subscribe", {"channel": "log:x"}, 103),
            ("publish", {"channel": "news:x", "data": 1}, 103),
            ("subscribe", {"channel": ""}, 107),
            ("subscribe", {"channel": "a b"}, 107),
            ("subscribe", {"channel": "x" * 256}, 107),
            ("unsubscribe", {"channel": "\n"}, 107),
            ("publish", {"channel": "ä", "data": 1}, 107),
            ("history", {"channel": "chat"}, 108),
            ("presence", {"channel": "chat"}, 108),
            ("presence_stats", {"channel": "chat"}, 108),
            ("history", {"channel": "kept:a"}, 103),
            ("presence", {"channel": "kept:a"}, 103),
            ("history", {"channel": "nowhere:x"}, 102),
            ("sub_refresh", {"channel": "chat", "token": "x"}, 108),
            ("sub_refresh", {"channel": "kept:a", "token": "x"}, 103),
            ("subscribe", {"channel": "a", "type": 1}, 108),
            ("rpc", {"method": "x"}, 104),
            ("refresh", {"token": "x"}, 108),
            ("dance", {}, 104),
        ):
            self.assertEqual(client.ask(method, **members)["code"], code, (method, members))
        self.assertEqual(client.ask("ping"), {})

    def test_wrong_field(self) -> None:
        """A wrong field is named in the reply, and the connection stays."""
        client = self.connected()
        error = client.ask("publish", channel=7, data=1)
        self.assertEqual(error["code"], 107)
        self.assertIn("publish.channel", error["message"])
        self.assertEqual(client.ask("ping"), {})

    def test_not_json(self) -> None:
        """A frame that is not JSON closes the connection for good; others are not touched."""
        other = self.connected()
        for data in (
            wire.frame("hello"),
            wire.frame(""),
            wire.frame(b"\x00\xff", wire.BINARY),
            wire.frame("[" * 30_000),
            wire.frame('{"id":-1,"ping":{}}'),
        ):
            client = self.connected()
            client.send(data)
            self.assertEqual(wire.close_of(client.take()), (3501, "bad request"))
        self.assertEqual(other.ask("ping"), {})
        self.assertEqual(len(self.oni.sessions), 1)

    def test_nothing_after_a_bad_line(self) -> None:
        """What follows in the frame of a command that closed the connection is not done."""
        client = self.connected()
        self.on("before", self.fail, action="publish")
        client.send(wire.frame('nonsense\n{"id":1,"publish":{"channel":"a","data":1}}'))
        self.assertEqual(wire.close_of(client.take()), (3501, "bad request"))

    def test_too_large(self) -> None:
        """A frame that is too large closes the connection."""
        client = self.connected()
        client.send(wire.frame(b"x" * 65537))
        closed = wire.close_of(client.take())
        assert closed is not None
        self.assertEqual(closed[0], 1009)

    def test_send(self) -> None:
        """A message that nobody takes is not dropped in silence."""
        client = self.connected()
        client.send(wire.command(send={"data": 1}))
        self.assertEqual(wire.close_of(client.take()), (3508, "not available"))


class LimitTests(HouseTestCase):
    """How much a client may ask for."""

    server = ServerSettings(max_channels_per_connection=2)

    def test_channels(self) -> None:
        """One more channel than allowed is refused; after unsubscribing there is room."""
        client = self.connected()
        client.ask("subscribe", channel="a")
        client.ask("subscribe", channel="b")
        self.assertEqual(client.ask("subscribe", channel="c")["code"], 106)
        client.ask("unsubscribe", channel="a")
        self.assertIn("epoch", client.ask("subscribe", channel="c"))

    def test_channels_at_once(self) -> None:
        """The limit holds for subscriptions that are handled at the same time."""
        gate: Deferred[None] = Deferred()
        self.on("before", lambda act: _wait(gate), action="subscribe")
        client = self.connected()
        for name in "abc":
            client.command("subscribe", channel=name)
        gate.callback(None)
        replies = client.messages()
        self.assertEqual(sum("error" in reply for reply in replies), 1)
        self.assertEqual(self.channels.statistics()["subscriptions"], 2)

    def test_acts(self) -> None:
        """With 16 acts running a session stops reading, and goes on when they are done."""
        gates: list[Deferred[None]] = []

        def hold(act: Any) -> Deferred[None]:
            gates.append(Deferred())
            return gates[-1]

        self.on("before", hold, action="publish")
        client = self.connected()
        lines = [
            json.dumps({"id": number, "publish": {"channel": f"c{number}", "data": 1}})
            for number in range(100, 100 + MAX_ACTS + 4)
        ]
        client.send(wire.frame("\n".join(lines)))
        self.assertEqual(len(gates), MAX_ACTS)
        self.assertEqual(client.transport.producerState, "paused")
        for gate in gates[:4]:
            gate.callback(None)
        self.reactor.advance(0)
        self.assertEqual(len(gates), MAX_ACTS + 4)
        self.assertEqual(client.transport.producerState, "paused")
        for gate in gates[4:]:
            gate.callback(None)
        self.assertEqual(client.transport.producerState, "producing")
        self.assertEqual(len(client.messages()), MAX_ACTS + 4)


class OrderTests(HouseTestCase):
    """What happens before what."""

    def test_one_channel(self) -> None:
        """A client's acts on one channel happen in order; other channels do not wait."""
        gate: Deferred[None] = Deferred()
        self.on("before", lambda act: gate if act.data == 1 else None, action="publish")
        client = self.connected()
        for number, channel in ((1, "a"), (2, "a"), (3, "b")):
            client.command("publish", channel=channel, data=number)
        self.assertEqual([message["id"] for message in client.messages()], [4])
        gate.callback(None)
        self.assertEqual([message["id"] for message in client.messages()], [2, 3])

    def test_slow_after(self) -> None:
        """A handler in `after` holds up neither the reply nor what comes next."""
        self.on("after", lambda act: Deferred(), action="publish")
        client = self.connected()
        for _ in range(MAX_ACTS + 4):
            self.assertEqual(client.ask("publish", channel="a", data=1), {})

    def test_slow_after_refusal(self) -> None:
        """Nor does it hold up a refusal, by the settings or by a handler."""
        self.on("after", lambda act: Deferred(), channel="news:a")
        self.on("after", lambda act: Deferred(), channel="chat")
        self.on("before", _raise(Refused(1000, "no")), channel="chat")
        client = self.connected()
        for _ in range(3):
            self.assertEqual(client.ask("publish", channel="news:a", data=1)["code"], 103)
            self.assertEqual(client.ask("publish", channel="chat", data=1)["code"], 1000)

    def test_acts_that_a_handler_causes_are_events_of_their_own(self) -> None:
        """What a client sends while a handler runs waits for its turn: it is not nested."""
        heard: list[Any] = []
        client = self.connected()
        (session,) = self.oni.sessions.values()

        def send_more(act: Any) -> None:
            if act.data == 1:
                session.received(b'{"id":99,"publish":{"channel":"chat","data":2}}')

        self.on("before", send_more, action="publish")
        self.on("after", lambda act: heard.append(act.data), action="publish")
        client.command("publish", channel="chat", data=1)
        self.assertEqual(heard, [1, 2])

    def test_waiting_commands_are_events_of_their_own(self) -> None:
        """Commands that had to wait are ordered like all others."""
        gates: list[Deferred[None]] = []

        def hold(act: Any) -> Deferred[None]:
            gates.append(Deferred())
            return gates[-1]

        connect: Deferred[None] = Deferred()
        self.on("before", lambda act: connect, action="connect")
        self.on("before", hold, action="publish")
        client = self.websocket()
        client.command("connect")
        client.command("publish", channel="a", data=1)
        client.command("publish", channel="a", data=2)
        connect.callback(None)
        self.reactor.advance(0)
        self.assertEqual(len(gates), 1)


class EndTests(HouseTestCase):
    """How a session ends."""

    def test_disconnect(self) -> None:
        """When a client has gone, its subscriptions are over and handlers hear of it."""
        heard: list[Any] = []
        client = self.connected()
        client.ask("subscribe", channel="chat")
        (session,) = self.oni.sessions.values()
        self.on("during", heard.append, action="disconnect")
        client.vanish()
        (act,) = heard
        self.assertEqual((act.client, act.user, act.channel), (session.client, "", ""))
        self.assertEqual(self.channels.statistics()["subscriptions"], 0)
        self.assertEqual(self.oni.sessions, {})
        self.successResultOf(self.channels.stop())
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.assertEqual(self.factory.connections, 0)

    def test_acts_are_cancelled(self) -> None:
        """On close a session cancels what it has begun, and tells of its end after that."""
        cancelled: list[Any] = []
        order: list[str] = []
        self.on("before", lambda act: Deferred(cancelled.append), action="subscribe")
        self.on("after", lambda act: order.append(act.action))
        client = self.connected()
        client.command("subscribe", channel="a")
        client.command("subscribe", channel="a")
        order.clear()
        client.vanish()
        self.assertEqual(len(cancelled), 1)
        self.reactor.advance(0)
        self.assertEqual(order, ["subscribe", "disconnect"])
        self.assertEqual(self.channels.statistics()["subscriptions"], 0)
        self.assertEqual(self.oni.sessions, {})

    def test_no_leak(self) -> None:
        """A subscription that is made after its client has gone is undone."""
        gate: Deferred[None] = Deferred()
        channel = self.channels.get("chat")
        attach = channel.attach

        def slow(*args: Any, **options: Any) -> Deferred[Any]:
            return gate.addCallback(lambda _: attach(*args, **options))

        self.patch(channel, "attach", slow)
        client = self.connected()
        client.command("subscribe", channel="chat")
        client.vanish()
        if not gate.called:
            gate.callback(None)
        self.assertEqual(channel.subscribers, 0)

    def test_no_leak_where_cancelling_is_of_no_use(self) -> None:
        """It is undone also where the channel could not be kept from making it."""
        channel = self.channels.get("chat")
        attach = channel.attach
        waited: list[Any] = []

        def stubborn(*args: Any, **options: Any) -> Deferred[Any]:
            waiting: Deferred[Any] = Deferred()
            waited.append(waiting)
            return waiting.addErrback(lambda _: None).addCallback(
                lambda _: attach(*args, **options)
            )

        self.patch(channel, "attach", stubborn)
        client = self.connected()
        client.command("subscribe", channel="chat")
        client.vanish()
        self.assertEqual((len(waited), waited[0].called), (1, True))
        self.assertEqual(channel.subscribers, 0)

    def test_refusal_of_a_cancelled_act(self) -> None:
        """Handlers in `after` see that the act was not available, not that the server failed."""
        seen: list[Any] = []
        self.on("before", lambda act: Deferred(), action="publish")
        self.on("after", lambda act: seen.append(act.refusal), action="publish")
        client = self.connected()
        client.command("publish", channel="chat", data=1)
        client.vanish()
        (refusal,) = seen
        self.assertEqual(refusal.code, 108)

    def test_when_closed(self) -> None:
        """A session is closed when its disconnect has happened, and not before."""
        gate: Deferred[None] = Deferred()
        self.on("before", lambda act: gate, action="disconnect")
        client = self.connected()
        (session,) = self.oni.sessions.values()
        client.vanish()
        first, second = session.when_closed(), session.when_closed()
        self.assertNoResult(first)
        self.assertEqual((session.state, len(self.oni.sessions)), ("closing", 1))
        gate.callback(None)
        self.successResultOf(first)
        self.successResultOf(second)
        self.successResultOf(session.when_closed())
        self.assertEqual((session.state, len(self.oni.sessions)), ("closed", 0))

    def test_closed_by_handler(self) -> None:
        """A handler may close the session whose act it handles."""
        from oni.protocol import CloseCode

        heard: list[Any] = []
        self.on("during", heard.append, action="disconnect")
        self.on(
            "before",
            lambda act: self.oni.sessions[act.client].close(CloseCode.FORCE_DISCONNECT),
            action="publish",
        )
        client = self.connected()
        client.command("publish", channel="a", data=1)
        self.assertEqual(wire.close_of(client.take()), (3503, "force disconnect"))
        self.assertEqual(len(heard), 1)
        self.assertEqual(self.oni.sessions, {})


class PingTests(HouseTestCase):
    """Whether the client is still there."""

    def test_pong(self) -> None:
        """Who answers pings stays."""
        client = self.connected()
        for _ in range(5):
            self.reactor.advance(25)
            self.assertEqual(client.messages(), [{}])
            client.send(wire.frame("{}"))
        self.assertIsNone(wire.close_of(client.take()))

    def test_any_traffic(self) -> None:
        """Any message counts as an answer."""
        client = self.connected()
        self.reactor.advance(25)
        client.command("ping")
        self.reactor.advance(10)
        self.assertIsNone(wire.close_of(client.take()))

    def test_no_pong(self) -> None:
        """Who does not answer is disconnected, and may come back."""
        client = self.connected()
        self.reactor.advance(25)
        self.reactor.advance(9.9)
        self.assertIsNone(wire.close_of(client.take()))
        self.reactor.advance(0.2)
        self.assertEqual(wire.close_of(client.take()), (3012, "no pong"))

    def test_slow_reader(self) -> None:
        """A client that reads, however slowly, is there; one that does not is not."""
        client = self.connected()
        producer = client.transport.producer
        self.reactor.advance(25)
        producer.pauseProducing()
        self.reactor.advance(9)
        producer.resumeProducing()
        producer.pauseProducing()
        self.reactor.advance(1)
        self.assertIsNone(wire.close_of(client.take()))
        self.reactor.advance(15)
        self.reactor.advance(10)
        self.assertEqual(wire.close_of(client.take()), (3012, "no pong"))

    def test_not_read_from(self) -> None:
        """A client that is not read from is not blamed for its silence."""
        gate: Deferred[None] = Deferred()
        self.on("before", lambda act: _wait(gate), action="publish")
        client = self.connected()
        for number in range(MAX_ACTS):
            client.command("publish", channel=f"c{number}", data=1)
        self.assertEqual(client.transport.producerState, "paused")
        self.reactor.advance(25)
        self.reactor.advance(10)
        self.assertIsNone(wire.close_of(client.take()))
        gate.callback(None)
        self.assertEqual(client.transport.producerState, "producing")

    def test_read_from_again(self) -> None:
        """It is not blamed for the time before, once it is read from again."""
        gate: Deferred[None] = Deferred()
        self.on("before", lambda act: _wait(gate), action="publish")
        client = self.connected()
        for number in range(MAX_ACTS):
            client.command("publish", channel=f"c{number}", data=1)
        self.reactor.advance(25)
        self.reactor.advance(9)
        gate.callback(None)
        self.assertEqual(client.transport.producerState, "producing")
        self.reactor.advance(1)
        self.assertIsNone(wire.close_of(client.take()))


class AnyCommandTests(HouseTestCase):
    """Whatever a client says."""

    server = ServerSettings(max_handshakes_per_second=1e6)

    @given(st.lists(COMMANDS, max_size=6))
    def test_any(self, commands: list[dict[str, Any]]) -> None:
        """Each command has one reply, or the connection is closed with a code; nothing fails."""
        client = self.connected()
        lines = [
            json.dumps({"id": number, **command}) for number, command in enumerate(commands, 100)
        ]
        client.send(wire.frame("\n".join(lines) or "{}"))
        data = client.take()
        while more := client.take():
            data += more
        close = wire.close_of(data)
        replies = [message["id"] for message in wire.messages(data) if "id" in message]
        if close is None:
            self.assertEqual(sorted(replies), list(range(100, 100 + len(commands))))
        else:
            self.assertIn(close[0], CLOSES)
        client.vanish()
        self.reactor.advance(0)
        self.assertEqual(self.oni.sessions, {})
        self.assertEqual(self.channels.statistics()["subscriptions"], 0)
        self.assertEqual(self.flushLoggedErrors(), [])


def _raise(error: Exception) -> Any:
    def handler(act: Any) -> None:
        raise error

    return handler


def _wait(gate: Deferred[None]) -> Deferred[None]:
    """Wait for a Deferred that others wait for, too."""
    waiting: Deferred[None] = Deferred()
    gate.addCallback(lambda result: waiting.callback(None) or result)
    return waiting


def _name(message: dict[str, Any]) -> str:
    push = message.get("push")
    if push:
        return "pub" if "pub" in push else next(iter(push))
    return next(key for key in message if key != "id")
