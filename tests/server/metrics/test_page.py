"""``/metrics``: who may read it, and that what it says is true."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import msgspec
import prometheus_client
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as openmetrics_families,
)
from prometheus_client.parser import text_string_to_metric_families
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.testing import MemoryReactorClock

from oni.channels import Channels
from oni.errors import MissingExtraError
from oni.server import Oni, make_factory
from oni.server._admin_settings import AdminSettings
from oni.server._guesses import FREE_FAILURES, Guesses
from oni.server._ledger_settings import LedgerSettings
from oni.server._running_settings import MetricsSettings
from oni.server.metrics import FIGURES, NOT_COUNTED
from oni.server.metrics._page import _MODULE, Metrics
from oni.server.sources._service import SourcesService
from tests.carriers import wire
from tests.server.house import Client, HouseTestCase
from tests.server.sources.fakes import SomeSources

KEY = "a key for metrics only"
ADMIN = "a key for administrators"
NEAR = IPv4Address("TCP", "127.0.0.1", 40000)


class MetricsTestCase(HouseTestCase):
    """An Oni whose figures are asked for."""

    metrics = MetricsSettings()

    def setUp(self) -> None:
        """Set who may read."""
        super().setUp()
        settings = msgspec.structs.replace(
            self.settings, metrics=self.metrics, admin=AdminSettings(key=ADMIN)
        )
        self.oni.settings = self.settings = settings
        self.factory = make_factory(self.oni, self.reactor)

    def ask(
        self,
        peer: Any = NEAR,
        host: str = "localhost:8000",
        path: str = "/metrics",
        **headers: str,
    ) -> tuple[int, dict[str, str], str]:
        """Read a page; give status, headers and text."""
        client = Client(self)
        client.transport.peerAddr = peer
        given = {"Host": host, **{name.replace("_", "-"): v for name, v in headers.items()}}
        lines = [f"{name}: {value}" for name, value in given.items()]
        client.send("\r\n".join([f"GET {path} HTTP/1.1", *lines, "", ""]).encode())
        head, body = wire.split_response(client.take())
        status, *rest = head.decode().split("\r\n")
        client.vanish()
        found = dict(line.lower().split(": ", 1) for line in rest if line)
        return int(status.split()[1]), found, body.decode()

    def figures(self) -> dict[tuple[str, ...], float]:
        """Read every sample by its name and the values of its labels."""
        status, _, text = self.ask()
        self.assertEqual(200, status)
        return {
            (sample.name, *sample.labels.values()): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }


class ReaderTests(MetricsTestCase):
    """Who may read where nothing is said."""

    def test_loopback(self) -> None:
        """A program on this machine may, by each way that is its own."""
        for peer in (NEAR, IPv6Address("TCP", "::1", 1), UNIXAddress("/run/oni")):
            with self.subTest(peer=peer):
                self.assertEqual(200, self.ask(peer)[0])

    def test_elsewhere(self) -> None:
        """Who comes from elsewhere may not, and the answer says where it is set."""
        for peer in (IPv4Address("TCP", "192.0.2.7", 1), IPv6Address("TCP", "2001:db8::7", 1)):
            status, headers, text = self.ask(peer)
            self.assertEqual(401, status)
            self.assertIn("bearer", headers["www-authenticate"])
            self.assertIn("[metrics]", text)
            self.assertNotIn("oni_", text)

    def test_a_proxy_on_this_machine(self) -> None:
        """A proxy's address says nothing of who sits behind it."""
        for header in ("Forwarded", "X_Forwarded_For", "X_Forwarded_Host", "X_Real_IP", "Via"):
            with self.subTest(header):
                self.assertEqual(401, self.ask(**{header: "192.0.2.7"})[0])

    def test_keys(self) -> None:
        """Its own key and the administrator's let anybody read, in each header."""
        far = IPv4Address("TCP", "192.0.2.7", 1)
        self.assertEqual(200, self.ask(far, X_Admin_Key=ADMIN)[0])
        self.assertEqual(200, self.ask(far, Authorization=f"Bearer {ADMIN}")[0])
        for headers in (
            {"X_API_Key": KEY},
            {"Authorization": f"Bearer {ADMIN}x"},
            {"Authorization": f"Basic {ADMIN}"},
            {"Authorization": "Bearer"},
        ):
            with self.subTest(headers):
                self.assertEqual(401, self.ask(far, **headers)[0])

    def test_only_reading(self) -> None:
        """Nothing can be sent here."""
        self.assertEqual(405, self.http(path="/metrics")[0])


class OtherNameTests(MetricsTestCase):
    """A name that is not loopback's is a proxy's, or a page's that was led here."""

    def setUp(self) -> None:
        """Serve another host, too."""
        self.server = msgspec.structs.replace(
            HouseTestCase.server, allowed_hosts=("localhost", "events.example.org")
        )
        super().setUp()

    def test_another_name(self) -> None:
        """It may not read without a key."""
        self.assertEqual(401, self.ask(host="events.example.org")[0])
        self.assertEqual(200, self.ask(host="events.example.org", X_Admin_Key=ADMIN)[0])


class KeyTests(MetricsTestCase):
    """Where only a key counts."""

    metrics = MetricsSettings(readers="key", key=KEY)

    def test_key(self) -> None:
        """Loopback alone is not enough."""
        self.assertEqual(401, self.ask()[0])
        self.assertEqual(200, self.ask(X_API_Key=KEY)[0])
        self.assertEqual(200, self.ask(Authorization=f"bearer  {KEY}")[0])


class GuessingTests(MetricsTestCase):
    """Who sends wrong keys."""

    metrics = MetricsSettings(readers="loopback", key=KEY)
    far = IPv4Address("TCP", "192.0.2.7", 1)

    def guess(self, *, metrics: bool = True) -> int:
        """Send a wrong key, here or to the console; give the status."""
        if metrics:
            return self.ask(self.far, X_Admin_Key="w" * 20)[0]
        return self.ask(self.far, path="/admin/snapshot", X_Admin_Key="w" * 20)[0]

    def test_waits(self) -> None:
        """After some wrong keys a right one is not looked at, for a while that is told."""
        self.assertEqual([401] * FREE_FAILURES, [self.guess() for _ in range(FREE_FAILURES)])
        status, headers, text = self.ask(self.far, X_Admin_Key=ADMIN)
        self.assertEqual((429, "1"), (status, headers["retry-after"]))
        self.assertIn("Try again in 1 s", text)
        self.assertEqual(1, self.figures()[("oni_rate_limited_total", "keys")])
        self.reactor.advance(1)
        self.assertEqual(200, self.ask(self.far, X_Admin_Key=ADMIN)[0])
        self.assertEqual(401, self.guess())

    def test_counted_with_the_console(self) -> None:
        """Who guesses the administrator's key there waits here, and the other way round."""
        for guessed_here in (True, False):
            with self.subTest(guessed_here):
                for _ in range(FREE_FAILURES):
                    self.assertEqual(401, self.guess(metrics=guessed_here))
                self.assertEqual(429, self.guess(metrics=not guessed_here))
                self.reactor.advance(1)
                self.assertEqual(200, self.ask(self.far, X_Admin_Key=ADMIN)[0])

    def test_the_lesser_key_forgives_nothing(self) -> None:
        """Who may read the figures cannot use that to guess the administrator's key."""
        statuses = []
        for _ in range(FREE_FAILURES):
            statuses += [self.guess(), self.ask(self.far, X_API_Key=KEY)[0]]
        self.assertEqual([401, 200, 401, 200, 401, 429], statuses)

    def test_several_at_once(self) -> None:
        """One request is one guess: with two keys both are wrong."""
        self.assertEqual(401, self.ask(self.far, X_API_Key=KEY, X_Admin_Key="w" * 20)[0])
        self.assertEqual(401, self.ask(self.far, X_API_Key=KEY, Authorization="Bearer x")[0])

    def test_none_is_no_guess(self) -> None:
        """Who shows no key may ask as often as they like; so may who needs none."""
        for _ in range(FREE_FAILURES + 1):
            self.assertEqual(401, self.ask(self.far)[0])
            self.assertEqual(200, self.ask(NEAR, X_Admin_Key="w" * 20)[0])
        self.assertEqual(200, self.ask(self.far, X_API_Key=KEY)[0])


class EveryoneTests(MetricsTestCase):
    """Where everyone may."""

    metrics = MetricsSettings(readers="everyone")

    def test_everyone(self) -> None:
        """Everyone may."""
        self.assertEqual(200, self.ask(IPv4Address("TCP", "192.0.2.7", 1))[0])


class NobodyTests(MetricsTestCase):
    """Where nobody may."""

    metrics = MetricsSettings(readers="nobody", key=KEY)

    def test_nobody(self) -> None:
        """There is nothing, with a key neither."""
        self.assertEqual(404, self.ask(X_API_Key=KEY)[0])


class FigureTests(MetricsTestCase):
    """What is told."""

    def test_every_figure(self) -> None:
        """Each is told with its help, its kind and a name of its own, and nothing else of ours."""
        _, headers, text = self.ask()
        self.assertIn("text/plain", headers["content-type"])
        told = {family.name: family for family in text_string_to_metric_families(text)}
        for figure in FIGURES:
            family = told.pop(figure.name.removesuffix("_total"))
            self.assertEqual((figure.kind, figure.help), (family.type, family.documentation))
        self.assertEqual([], [name for name in told if name.startswith("oni_")])
        self.assertIn("process_resident_memory_bytes", told)
        self.assertEqual(len(FIGURES), len({figure.name for figure in FIGURES}))
        self.assertEqual(set(), {figure.name for figure in FIGURES} & set(NOT_COUNTED))

    def test_ledger(self) -> None:
        """Where there is a ledger its figures are told, and only there."""
        self.assertNotIn(("oni_ledger_up",), self.figures())
        sources = SomeSources()
        service = SourcesService(
            sources,  # type: ignore[arg-type]
            LedgerSettings(),
            self.reactor,
            10.0,
        )
        self.oni.sources_service = service
        service.health.opens()
        found = self.figures()
        self.assertEqual(0.0, found["oni_ledger_up",])
        self.assertNotIn(("oni_ledger_deliveries", "pending"), found)
        service.startService()
        self.reactor.advance(0)
        found = self.figures()
        self.assertEqual(
            (1.0, 2.5), (found["oni_ledger_up",], found["oni_ledger_oldest_due_seconds",])
        )
        self.assertEqual(3.0, found["oni_ledger_deliveries", "pending"])
        for name in (
            ("oni_ledger_events_total", "conflict"),
            ("oni_ledger_attempts_total", "stale"),
            ("oni_ledger_claims_total",),
            ("oni_ledger_rescued_total",),
            ("oni_ledger_lost_total",),
            ("oni_ledger_held",),
            ("oni_ledger_waiting",),
            ("oni_ledger_commits_total",),
            ("oni_sources_under_way",),
            ("oni_sources_lost_threads",),
        ):
            self.assertEqual(7.0, found[name], name)
        self.assertNotIn(("oni_outbox_backlog",), found)
        seen = {"looks": 1, "backlog": 4, "aside": 1, "age": 9}
        relay = SimpleNamespace(statistics=lambda: seen)
        service._relays = [relay]  # type: ignore[list-item]
        found = self.figures()
        self.assertEqual(
            (4.0, 9.0, 1.0),
            tuple(found[f"oni_outbox_{name}",] for name in ("backlog", "age_seconds", "aside")),
        )
        service.health.fails("gone")
        self.assertEqual(0.0, self.figures()["oni_ledger_up",])

    def test_a_registry_of_its_own(self) -> None:
        """Two daemons in a process tell of themselves, and nothing of what others register."""
        counter = prometheus_client.Counter("of_the_application", "Something else.")
        self.addCleanup(prometheus_client.REGISTRY.unregister, counter)
        self.connected()
        _, _, text = self.ask()
        self.assertNotIn("of_the_application", text)
        other = Oni(
            self.settings, MemoryReactorClock(), channels=Channels(reactor=MemoryReactorClock())
        )
        mine, self.factory = self.factory, make_factory(other, self.reactor)
        self.assertEqual(0.0, self.figures()[("oni_connections",)])
        self.factory = mine
        self.assertEqual(1.0, self.figures()[("oni_connections",)])

    def test_openmetrics(self) -> None:
        """A reader that asks for it gets the newer format."""
        _, headers, text = self.ask(Accept="application/openmetrics-text; version=1.0.0")
        self.assertIn("openmetrics", headers["content-type"])
        # Its parser refuses a family that is there twice, as a counter's bare name may be.
        self.assertGreater(len(list(openmetrics_families(text))), len(FIGURES))

    def test_odd_wishes(self) -> None:
        """A reader whose wish nobody understands gets the text format."""
        for wish in (
            *("\xff;q=zzz,,;;", ";;;", "text/plain;q=zzz", ","),
            "application/openmetrics-text; version=abc",
            "application/openmetrics-text; version=\xff",
        ):
            with self.subTest(wish):
                status, headers, _ = self.ask(Accept=wish)
                self.assertEqual(200, status)
                self.assertIn("text/plain; version=0.0.4", headers["content-type"])

    def test_the_truth(self) -> None:
        """What happened is what is told."""
        one, two = self.connected(), self.connected()
        for client in (one, two):
            client.ask("subscribe", channel="kept:a")
        one.ask("publish", channel="kept:a", data="x")
        one.ask("publish", channel="lobby", data="x")
        one.ask("publish", channel="news:a", data="x")
        for _ in range(3):
            channel = self.oni.channels.get("lobby")
            self.successResultOf(channel.publish("message", "x", idempotency_key="k"))
        two.vanish()
        told = self.figures()
        expected = {
            ("oni_connections",): 1,
            ("oni_sockets",): 2,  # this one, too
            ("oni_connections_opened_total", "websocket", "json"): 2,
            ("oni_disconnects_total", "1006"): 1,
            ("oni_commands_total", "publish"): 3,
            ("oni_command_errors_total", "103", "publish"): 1,
            ("oni_command_seconds_count",): 7,
            ("oni_publications_total", "kept"): 1,
            ("oni_publications_total", ""): 4,
            ("oni_publish_suppressed_total", "idempotency"): 2,
            ("oni_gaps_total", "history"): 0,
            ("oni_gaps_total", "epoch"): 0,
            ("oni_deliveries_total",): 2,
            ("oni_subscriptions",): 1,
            ("oni_ready",): 1,
            ("oni_draining",): 0,
            ("oni_backend_up",): 1,
            ("oni_cursor_lag_messages_bucket", "0"): 1,
            ("oni_cursor_lag_messages_count",): 1,
            ("oni_cursor_lag_messages_max",): 0,
            ("oni_paused_connections",): 0,
            ("oni_handlers",): 3,
        }
        wrong = {key: told.get(key) for key in expected if told.get(key) != expected[key]}
        self.assertEqual({}, wrong)

    def test_who_does_not_read(self) -> None:
        """A connection that takes nothing is paused, its replies wait, its cursor lags."""
        client = self.connected()
        client.ask("subscribe", channel="lobby")
        client.take()
        client.transport.producer.pauseProducing()
        for number in range(3):
            self.successResultOf(self.oni.act("publish", channel="lobby", data=number))
        client.protocol.dataReceived(wire.command(id=99, ping={}))
        told = self.figures()
        self.assertEqual(1, told[("oni_paused_connections",)])
        self.assertGreater(told[("oni_send_buffer_bytes",)], 2)
        self.assertEqual(3, told[("oni_cursor_lag_messages_max",)])
        self.assertEqual(1, told[("oni_cursor_lag_messages_bucket", "5")])
        self.assertEqual(0, told[("oni_cursor_lag_messages_bucket", "2")])

    def test_gaps(self) -> None:
        """Each gap is told with its cause."""
        self.oni.channels.gap_causes["feed"] += 2
        told = self.figures()
        causes = {key[1]: value for key, value in told.items() if key[0] == "oni_gaps_total"}
        self.assertEqual({"history": 0, "backend": 0, "feed": 2, "epoch": 0}, causes)

    def test_a_backend_that_does_not_count(self) -> None:
        """What a backend does not know is not there: 0 would be a lie."""
        self.patch(self.oni.channels.backend, "statistics", dict)
        self.assertNotIn("oni_publish_suppressed_total", {key[0] for key in self.figures()})

    def test_draining(self) -> None:
        """The end is seen."""
        self.oni.condition.drains()
        told = self.figures()
        self.assertEqual((1, 0), (told[("oni_draining",)], told[("oni_ready",)]))

    def test_nothing_is_paid_before_it_is_read(self) -> None:
        """What writes the figures is loaded for the first reader, not before."""
        read: list[int] = []
        page = Metrics(
            MetricsSettings(), None, Guesses((), lambda: 0.0), lambda: read.append(1) or {}
        )
        self.assertIsNone(page._exposition)
        self.assertEqual([], read)

    def test_without_prometheus_client(self) -> None:
        """Where it is not installed the page says what to install; all else works."""
        self.patch(sys, "modules", {**sys.modules, _MODULE: None})
        status, _, text = self.ask()
        self.assertEqual(501, status)
        self.assertIn("pip install 'oni-dispatcher[server]'", text)
        self.assertTrue(issubclass(MissingExtraError, ImportError))
