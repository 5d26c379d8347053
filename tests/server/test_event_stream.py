"""Channels as server-sent events, over a whole Oni."""

from __future__ import annotations

from typing import Any

from oni.errors import Refused
from oni.server._settings import ServerSettings
from tests.server.house import Client, HouseTestCase


class EventStreamTests(HouseTestCase):
    """Tests of ``/connection/sse/CHANNEL``."""

    server = ServerSettings(allowed_origins=("https://good.example",))

    def open(self, channel: str, **headers: str) -> Client:
        """Ask for a channel."""
        return self.request(method="GET", path=f"/connection/sse/{channel}", **headers)

    def status(self, channel: str, **headers: str) -> int:
        """Ask for a channel that is refused; give the status."""
        head = self.open(channel, **headers).take().split(b"\r\n")[0]
        return int(head.split(b" ")[1])

    def publish(self, channel: str, *data: Any, event: str = "message") -> None:
        """Publish from the server."""
        for one in data:
            done = self.oni.act("publish", channel=channel, event=event, data=one)
            self.successResultOf(done)

    def events(self, client: Client) -> list[tuple[str, str, str]]:
        """Give id, name and data of what has come."""
        found = []
        text = client.take().decode().replace("\r\n", "\n")
        for block in text.split("\n\n"):
            lines = [line for line in block.split("\n") if ": " in line]
            fields = dict(line.split(": ", 1) for line in lines)
            if "id" in fields:
                found.append(
                    (fields["id"].split(":")[1], fields.get("event", ""), fields.get("data", ""))
                )
        return found

    def test_events(self) -> None:
        """First comes the position, then each publication with its name."""
        client = self.open("kept:a")
        data = client.take()
        self.assertIn(b"200 OK", data)
        self.assertIn(b"text/event-stream", data)
        self.assertIn(b"id: %s:0\n\n" % self.top("kept:a").epoch.encode(), data)
        self.publish("kept:a", {"x": 1}, event="moved")
        self.assertEqual(self.events(client), [("1", "moved", '{"x":1}')])

    def test_recover(self) -> None:
        """Who comes back gets what it missed, from header or address, few or many."""
        self.publish("kept:a", *range(5))
        epoch = self.top("kept:a").epoch
        client = self.open("kept:a", Last_Event_ID=f"{epoch}:3")
        self.assertEqual(
            self.events(client), [("4", "message", "3"), ("5", "message", "4"), ("5", "", "")]
        )
        client = self.open(f"kept:a?last_event_id={epoch}:4")
        self.assertEqual(self.events(client), [("5", "message", "4"), ("5", "", "")])
        self.publish("kept:a", *range(5, 1000))
        client = self.open("kept:a", Last_Event_ID=f"{epoch}:1")
        found = self.events(client)
        while len(found) < 1000:
            more = self.events(client)
            self.assertTrue(more)
            found += more
        self.assertEqual(found[0], ("1", "", ""))
        self.assertEqual([int(data) for _, _, data in found[1:]], list(range(1, 1000)))

    def test_gap(self) -> None:
        """What cannot be recovered is told as an event, and it goes on from now."""
        self.publish("kept:a", 1, 2)
        for bad in ("x:1", "nonsense", f"{self.top('kept:a').epoch}:9"):
            client = self.open("kept:a", Last_Event_ID=bad)
            ((at, name, _),) = self.events(client)
            self.assertEqual((at, name), ("2", "gap"), bad)
        self.publish("kept:a", 3)
        self.assertEqual(self.events(client), [("3", "message", "3")])

    def test_session(self) -> None:
        """Behind it is a session: it is present, pinged, and gone when its connection is."""
        client = self.open("kept:a")
        (session,) = self.oni.sessions.values()
        there = self.successResultOf(self.channels.get("kept:a").presence())
        self.assertEqual(list(there), [session.client])
        client.take()
        for _ in range(8):
            self.reactor.advance(12.5)
        self.assertTrue(session.is_open)  # it cannot answer, and need not
        self.assertIn(b":\n\n", client.take())
        client.vanish()
        self.reactor.advance(0)
        self.assertEqual(self.oni.sessions, {})
        self.assertEqual(self.channels.statistics()["subscriptions"], 0)

    def test_end(self) -> None:
        """Its connection is counted until everything has left, and aborted if that never does."""
        client, stuck, page = self.open("kept:a"), self.open("kept:a"), Client(self)
        page.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        websocket = self.connected()
        self.assertIn(b"\r\nConnection: close\r\n", client.take())
        self.assertEqual(self.factory.leaving, 3)
        stopped = self.oni.stop()
        self.reactor.advance(0)
        self.successResultOf(stopped)
        self.assertTrue(client.take().endswith(b"0\r\n\r\n"))
        self.assertTrue(client.transport.disconnecting)
        self.assertEqual(self.factory.leaving, 3)
        client.vanish()
        websocket.vanish()
        self.assertEqual(self.factory.leaving, 1)
        self.assertFalse(stuck.transport.aborted)
        self.reactor.advance(self.settings.server.close_timeout + 0.1)
        self.assertTrue(stuck.transport.aborted)
        stuck.vanish()
        self.assertEqual(self.factory.leaving, 0)

    def test_vanished(self) -> None:
        """One that ends before is counted no more."""
        client = self.open("kept:a")
        client.vanish()
        self.assertEqual(self.factory.leaving, 0)

    def test_refused(self) -> None:
        """A browser does not ask again for what it cannot have."""
        for channel, status in (
            ("nowhere:a", 404),
            ("log:a", 403),
            ("", 400),
            ("a%20b", 400),
            ("%ff", 400),
        ):
            self.assertEqual(self.status(channel), status, channel)
        self.reactor.advance(1)
        self.assertEqual(self.oni.sessions, {})
        self.assertEqual(self.answer_of(self.request(path="/connection/sse/a"))[0], 405)

    def test_refused_for_now(self) -> None:
        """What may work later ends in a way that lets a browser ask again."""

        def refuse(act: Any) -> None:
            raise Refused(111, "too many requests", temporary=True)

        self.on("before", refuse, action="subscribe")
        client = self.open("chat")
        self.assertIn(b"200 OK", client.take())
        self.reactor.advance(1)
        self.assertEqual(self.oni.sessions, {})

    def test_refused_connect(self) -> None:
        """A handler may refuse the connect, too."""

        def refuse(act: Any) -> None:
            raise Refused(101, "unauthorized")

        self.on("before", refuse, action="connect")
        self.assertEqual(self.status("chat"), 401)

    def test_origin(self) -> None:
        """Pages of other sites may read it only where the settings name them."""
        self.assertEqual(self.status("chat", Origin="https://evil.example"), 403)
        self.assertEqual(self.oni.sessions, {})
        head = self.open("chat", Origin="https://good.example").take()
        self.assertIn(b"Access-Control-Allow-Origin: https://good.example", head)
        self.assertIn(b"Access-Control-Allow-Credentials: true", head)  # with its cookies
        head = self.open("chat", Origin="http://localhost:8000").take()
        self.assertIn(b"200 OK", head)

    def test_ended_by_server(self) -> None:
        """Unsubscribed, disconnected or shut down, the response ends."""
        for end in (
            lambda: self.oni.unsubscribe("", "chat"),
            lambda: self.oni.disconnect(""),
            self.oni.stop,
        ):
            client = self.open("chat")
            self.assertIn(b"200 OK", client.take())
            end()
            self.assertIn(b"\r\n0\r\n\r\n", b"\r\n" + client.take())

    def test_one_channel(self) -> None:
        """The server subscribes it to nothing else: ids would not fit."""
        client = self.open("chat")
        client.take()
        self.successResultOf(self.oni.subscribe("", "kept:a"))
        self.publish("kept:a", 1)
        self.assertEqual(client.take(), b"")

    def test_stopping(self) -> None:
        """While the server stops, nobody gets in."""
        self.oni.stop()
        self.assertEqual(self.status("chat"), 503)
