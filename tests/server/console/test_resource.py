"""``/admin``: what is answered, to whom, and in which words it is refused."""

from __future__ import annotations

import json
from typing import Any

from oni.errors import Refused
from oni.server._admin_settings import AdminSettings
from oni.server.console._snapshot import MAX_ROWS
from tests.server.house import HouseTestCase, WebSocketClient

ADMIN_KEY = "the-key-of-the-admin"


class AdminTestCase(HouseTestCase):
    """An Oni with an admin key, and somebody who has it."""

    admin = AdminSettings(key=ADMIN_KEY)

    def ask(self, path: str, method: str = "GET", body: Any = b"", **headers: str) -> Any:
        """Ask with the key; give the answer."""
        headers = {"X_Admin_Key": ADMIN_KEY, **headers}
        client = self.request(body, method, f"/admin/{path}", **headers)
        status, told = self.answer_of(client)
        client.vanish()
        self.assertEqual(200, status, told)
        return told

    def publish(self, **members: Any) -> Any:
        """Publish as the console does."""
        return self.ask("publish", "POST", json.dumps(members).encode())

    def let_in(self) -> WebSocketClient:
        """Connect with a pass."""
        client = self.websocket()
        client.ask("connect", token=self.ask("pass", "POST")["token"])
        return client


class Doors(AdminTestCase):
    """Who gets in."""

    def test_door(self) -> None:
        """Everybody may ask what is needed."""
        self.assertEqual((200, {"needs": "key"}), self.http(b"", "GET", "/admin/door"))

    def test_key(self) -> None:
        """Nothing else is answered without the key, and nobody learns what there is."""
        for path in ("snapshot", "pass", "publish", "nothing"):
            for method in ("GET", "POST", "PUT"):
                with self.subTest(path=path, method=method):
                    status, told = self.http(b"", method, f"/admin/{path}")
                    self.assertEqual((401, "key"), (status, told["error"]["code"]))

    def test_guesses(self) -> None:
        """Who guesses is told to wait, in the header that is meant for it."""
        for _ in range(3):
            self.assertEqual(401, self.http(b"", "GET", "/admin/snapshot", X_Admin_Key="w")[0])
        client = self.request(b"", "GET", "/admin/snapshot", X_Admin_Key=ADMIN_KEY)
        self.assertIn(b"Retry-After: 1\r\n", client.take())

    def test_key_in_the_address(self) -> None:
        """A key in the address is none."""
        path = f"/admin/snapshot?key={ADMIN_KEY}&X-Admin-Key={ADMIN_KEY}"
        self.assertEqual(401, self.http(b"", "GET", path)[0])

    def test_verbs(self) -> None:
        """Each thing is asked for in one way, so that a link can do nothing."""
        for path, method in (("publish", "GET"), ("pass", "GET"), ("snapshot", "POST")):
            status, _ = self.http(b"", method, f"/admin/{path}", X_Admin_Key=ADMIN_KEY)
            self.assertEqual(405, status)

    def test_headers(self) -> None:
        """Answers are for nobody else, and kept nowhere."""
        client = self.request(b"", "GET", "/admin/door")
        head = client.take().lower()
        self.assertIn(b"cache-control: no-store\r\n", head)
        self.assertIn(b"cross-origin-resource-policy: same-origin\r\n", head)


class Publishing(AdminTestCase):
    """The publish box."""

    def test_publish(self) -> None:
        """A publication goes out, and its position comes back."""
        client = self.connected()
        client.ask("subscribe", channel="kept:1")
        told = self.publish(channel="kept:1", event="hired", data={"user": "bob"})
        self.assertEqual(self.top("kept:1").offset, told["offset"])
        self.assertEqual(self.top("kept:1").epoch, told["epoch"])
        (message,) = client.messages()
        self.assertEqual({"user": "bob"}, message["push"]["pub"]["data"])
        self.assertEqual("hired", message["push"]["pub"]["tags"]["event"])

    def test_who(self) -> None:
        """It is an act of the admin's, that handlers see and may refuse."""
        users = []

        def refuse(act: Any) -> None:
            users.append(act.user)
            raise Refused(1000, "mind your language")

        self.on("before", refuse, action="publish")
        error = self.publish(channel="lobby", data=1)["error"]
        self.assertEqual(["admin"], users)
        self.assertEqual({"code": 1000, "message": "mind your language", "field": ""}, error)

    def test_permissions_of_clients(self) -> None:
        """What clients may not publish on, the admin may."""
        self.assertEqual(1, self.publish(channel="news:1", data=1)["offset"])

    def test_fields(self) -> None:
        """What is wrong is said where it is."""
        for field, members in (
            ("channel", {"channel": "", "data": 1}),
            ("channel", {"channel": "two words", "data": 1}),
            ("channel", {"channel": "unknown:1", "data": 1}),
            ("event", {"channel": "lobby", "event": "a\nb", "data": 1}),
            ("data", {"channel": "lobby"}),
        ):
            with self.subTest(members):
                error = self.publish(**members)["error"]
                self.assertEqual(field, error["field"], error)
                self.assertTrue(error["message"])

    def test_bodies(self) -> None:
        """What is no publication is refused, however it is broken."""
        deep = b"[" * 5000 + b"]" * 5000
        for body in (
            *(b"", b"[]", b"{", b'{"channel": 1}', b"\xff", b'{"data": {]}'),
            b'{"channel": "lobby", "event": "\xff", "data": 1}',
            b'{"channel": "lobby", "data": ' + deep + b"}",
            b'{"channel": "lobby", "data": 1, "more": ' + deep + b"}",
        ):
            with self.subTest(body[:40]):
                error = self.ask("publish", "POST", body)["error"]
                self.assertEqual("data", error["field"])

    def test_faults(self) -> None:
        """What a handler does wrong is not told."""
        self.on("before", lambda act: 1 / 0, action="publish")
        error = self.publish(channel="lobby", data=1)["error"]
        self.assertEqual(100, error["code"])
        self.assertNotIn("division", json.dumps(error))
        self.flushLoggedErrors(ZeroDivisionError)


class Passing(AdminTestCase):
    """A pass for the websocket."""

    def test_once(self) -> None:
        """A pass lets in once, and only soon."""
        token = self.ask("pass", "POST")["token"]
        self.assertIn("client", self.websocket().ask("connect", token=token))
        self.assertEqual(101, self.websocket().ask("connect", token=token)["code"])
        late = self.ask("pass", "POST")["token"]
        self.reactor.advance(31)
        self.assertEqual(101, self.websocket().ask("connect", token=late)["code"])

    def test_guesses(self) -> None:
        """What only looks like a pass is none."""
        self.ask("pass", "POST")
        for token in ("oni-pass:", "oni-pass:x", "x"):
            self.assertEqual(101, self.websocket().ask("connect", token=token)["code"])

    def test_subscribes_everywhere(self) -> None:
        """With a pass every channel that exists can be heard, also where clients may not."""
        self.assertEqual(103, self.connected().ask("subscribe", channel="log:1")["code"])
        console = self.let_in()
        self.assertIn("offset", console.ask("subscribe", channel="log:1") | {"offset": 0})
        self.publish(channel="log:1", data="seen")
        (message,) = console.messages()
        self.assertEqual("seen", message["push"]["pub"]["data"])
        self.assertEqual(102, console.ask("subscribe", channel="unknown:1")["code"])
        self.assertEqual(107, console.ask("subscribe", channel="two words")["code"])

    def test_nothing_else(self) -> None:
        """It is a pass for hearing: publishing is as for every client."""
        console = self.let_in()
        self.assertEqual(103, console.ask("publish", channel="news:1", data=1)["code"])

    def test_unseen(self) -> None:
        """Others do not learn that somebody looks on."""
        client = self.connected()
        client.ask("subscribe", channel="kept:1", join_leave=True)
        console = self.let_in()
        console.ask("subscribe", channel="kept:1")
        self.assertEqual(1, client.ask("presence_stats", channel="kept:1")["num_clients"])
        self.assertEqual([], client.messages())

    def test_bounded(self) -> None:
        """Passes that nobody uses do not heap up: the oldest is worth nothing."""
        tokens = [self.oni.passes.issue() for _ in range(101)]
        self.assertEqual(101, self.websocket().ask("connect", token=tokens[0])["code"])
        self.assertIn("client", self.websocket().ask("connect", token=tokens[1]))


class AnonymousNot(AdminTestCase):
    """Where clients need to say who they are."""

    anonymous = False

    def test_pass(self) -> None:
        """The console gets in all the same."""
        self.assertEqual(101, self.websocket().ask("connect")["code"])
        self.assertIn("client", self.let_in().ask("subscribe", channel="lobby") | {"client": 1})


class Seeing(AdminTestCase):
    """The snapshot."""

    def snapshot(self, query: str = "") -> Any:
        """Ask for it, a second after the last one."""
        self.reactor.advance(1)
        return self.ask(f"snapshot{query}")

    def test_everything(self) -> None:
        """It has the daemon, its figures, channels, slow readers and handlers."""
        self.connected().ask("subscribe", channel="lobby")
        told = self.snapshot()
        self.assertEqual(
            ["channels", "counters", "dispatcher", "figures", "node", "rates", "slow"],
            sorted(told),
        )
        self.assertEqual(1, told["figures"]["connections"])
        self.assertEqual(1, told["figures"]["subscriptions"])
        self.assertEqual("lobby", told["channels"]["rows"][0]["name"])
        self.assertEqual("memory", told["node"]["backend"])
        self.assertEqual(
            ["before", "during", "after"], [p["name"] for p in told["dispatcher"]["phases"]]
        )

    def test_find_and_sort(self) -> None:
        """Channels are found by a part of their names, and sorted; the rest is counted."""
        busy, quiet = self.connected(), self.connected()
        for name in ("chess", "checkers", "go"):
            busy.ask("subscribe", channel=name)
        quiet.ask("subscribe", channel="go")
        self.snapshot()
        self.publish(channel="checkers", data=1)
        for query, names in (
            ("?sort=name", ["checkers", "chess", "go"]),
            ("?sort=rate", ["checkers", "go", "chess"]),
            ("?sort=subscribers", ["go", "checkers", "chess"]),
            ("?sort=name&find=CHE", ["checkers", "chess"]),
        ):
            with self.subTest(query):
                found = self.ask(f"snapshot{query}")["channels"]
                if query == "?sort=name":
                    found = self.snapshot(query)["channels"]
                self.assertEqual(names, [row["name"] for row in found["rows"]])
                self.assertEqual((len(names), 3), (found["found"], found["total"]))
        error = self.ask("snapshot?sort=luck")["error"]
        self.assertEqual("sort", error["field"])

    def test_bounded(self) -> None:
        """However many channels there are, so many are told, and how many there are."""
        client = self.connected()
        held = [self.channels.get(f"c{number}") for number in range(MAX_ROWS + 20)]
        client.ask("subscribe", channel="c7")
        found = self.snapshot()["channels"]
        self.assertEqual(MAX_ROWS, len(found["rows"]))
        self.assertEqual(len(held), found["total"])
        self.assertEqual("c7", found["rows"][0]["name"])

    def test_wishes_are_bounded(self) -> None:
        """Many different wishes in one second do not heap up."""
        for number in range(40):
            self.ask(f"snapshot?find={number}")
        (child,) = [self.factory.site.resource.children[b"admin"]]
        self.assertLessEqual(len(child.watcher._newest._answers), 16)
