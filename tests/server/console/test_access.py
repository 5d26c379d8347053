"""Who may look inside: keys, this machine, other pages, and those who guess."""

from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.test.requesthelper import DummyRequest

from oni.server import _guesses as module
from oni.server._admin_settings import AdminSettings
from oni.server._guesses import FREE_FAILURES, LONGEST_WAIT, MAX_ADDRESSES, Guesses
from oni.server._settings import ServerSettings, Settings
from oni.server.console._access import Access, Denial

KEY = "k" * 20
OUTSIDE = IPv4Address("TCP", "192.0.2.7", 40000)
INSIDE = IPv4Address("TCP", "127.0.0.1", 40000)


class AccessTestCase(SynchronousTestCase):
    """Asks from here and there."""

    def setUp(self) -> None:
        """Make a clock."""
        self.clock = Clock()

    def access(self, server: ServerSettings | None = None, **admin: Any) -> Access:
        """Make one with these settings."""
        settings = Settings(server=server or ServerSettings(), admin=AdminSettings(**admin))
        self.guesses = Guesses(settings.server.trusted_proxies, self.clock.seconds)
        return Access(settings, self.guesses)

    def request(self, address: Any = INSIDE, **headers: str) -> Any:
        """Make a request."""
        request: Any = DummyRequest([])
        request.client = address
        request.transport = None
        for name, value in {"host": "localhost:8000", **headers}.items():
            request.requestHeaders.setRawHeaders(name.replace("_", "-"), [value])
        return request

    def ask(self, access: Access, address: Any = OUTSIDE, **headers: str) -> Denial | None:
        """Say why a request is not answered."""
        return access.denial(self.request(address, **headers))

    def guess(self, access: Access, address: Any = OUTSIDE) -> int:
        """Send a wrong key; give the status."""
        denial = self.ask(access, address, x_admin_key="w" * 20)
        assert denial is not None
        return denial.status


class Keys(AccessTestCase):
    """Where a key is needed."""

    def test_right(self) -> None:
        """The right key is enough, from everywhere."""
        access = self.access(key=KEY)
        for address in (OUTSIDE, INSIDE, UNIXAddress("/run/oni.sock")):
            self.assertEqual("key", access.needs(self.request(address)))
            self.assertIsNone(self.ask(access, address, x_admin_key=KEY))

    def test_wrong(self) -> None:
        """A wrong, missing or doubled one is not."""
        access = self.access(key=KEY)
        for key in ("w" * 20, "", KEY[:-1], KEY + "k"):
            with self.subTest(key):
                denial = self.ask(self.access(key=KEY), x_admin_key=key)
                assert denial is not None
                self.assertEqual((401, "wrong"), (denial.status, denial.code))
        denial = self.ask(access)
        assert denial is not None
        self.assertEqual((401, "key"), (denial.status, denial.code))
        doubled = self.request(OUTSIDE)
        doubled.requestHeaders.setRawHeaders("x-admin-key", [KEY, KEY])
        self.assertEqual(401, getattr(access.denial(doubled), "status", None))

    def test_compared_in_constant_time(self) -> None:
        """Keys are compared by a function that takes as long for all, and in one length."""
        compared: list[tuple[bytes, bytes]] = []

        class Watched:
            @staticmethod
            def compare_digest(one: bytes, other: bytes) -> bool:
                compared.append((one, other))
                return one == other

        self.patch(module, "hmac", Watched)
        access = self.access(key=KEY)
        for key in ("short", KEY, "w" * 300):
            self.ask(access, x_admin_key=key)
        self.assertEqual([32] * 6, [len(part) for pair in compared for part in pair])

    def test_off(self) -> None:
        """Without a key in the settings nobody is let in, whatever they send."""
        access = self.access()
        self.assertEqual("off", access.needs(self.request()))
        denial = self.ask(access, INSIDE, x_admin_key="")
        assert denial is not None
        self.assertEqual((403, "off"), (denial.status, denial.code))


class Guessing(AccessTestCase):
    """Who sends wrong keys."""

    def test_waits_longer_each_time(self) -> None:
        """After some wrong keys each next one costs a wait, twice as long as the last."""
        access = self.access(key=KEY)
        self.assertEqual([401] * FREE_FAILURES, [self.guess(access) for _ in range(3)])
        for wait in (1, 2, 4, 8, 16, 32, 60, 60):
            with self.subTest(wait):
                denial = self.ask(access, x_admin_key="w" * 20)
                assert denial is not None
                self.assertEqual((429, wait), (denial.status, denial.wait))
                self.clock.advance(wait)
                self.assertEqual(401, self.guess(access))
        self.assertEqual(60.0, LONGEST_WAIT)

    def test_right_key_is_not_looked_at(self) -> None:
        """While it waits, also the right key tells nothing; afterwards all is forgotten."""
        access = self.access(key=KEY)
        for _ in range(FREE_FAILURES):
            self.guess(access)
        denial = self.ask(access, x_admin_key=KEY)
        assert denial is not None
        self.assertEqual(429, denial.status)
        self.clock.advance(1)
        self.assertIsNone(self.ask(access, x_admin_key=KEY))
        self.assertEqual([401] * FREE_FAILURES, [self.guess(access) for _ in range(3)])

    def test_others(self) -> None:
        """One who guesses holds up nobody at another address."""
        access = self.access(key=KEY)
        for _ in range(FREE_FAILURES):
            self.guess(access)
        self.assertEqual(429, self.guess(access))
        self.assertIsNone(self.ask(access, INSIDE, x_admin_key=KEY))

    def test_others_behind_a_proxy(self) -> None:
        """Whoever comes through a proxy of ours is known by the address that it tells."""
        access = self.access(ServerSettings(trusted_proxies=("127.0.0.1",)), key=KEY)
        for _ in range(FREE_FAILURES + 1):
            self.ask(access, INSIDE, x_forwarded_for="192.0.2.9", x_admin_key="w" * 20)
        for client, status in (("192.0.2.9", 429), ("192.0.2.8", None)):
            denial = self.ask(access, INSIDE, x_forwarded_for=client, x_admin_key=KEY)
            self.assertEqual(status, denial and denial.status)

    def test_no_key_is_no_guess(self) -> None:
        """Who asks without a key may ask as often as they like."""
        access = self.access(key=KEY)
        for _ in range(20):
            self.ask(access)
        self.assertIsNone(self.ask(access, x_admin_key=KEY))

    def test_bounded(self) -> None:
        """However many addresses guess, only so many are remembered."""
        access = self.access(key=KEY)
        for number in range(MAX_ADDRESSES + 50):
            self.guess(access, IPv4Address("TCP", f"10.0.{number // 256}.{number % 256}", 1))
        self.assertEqual(MAX_ADDRESSES, len(self.guesses))


class Here(AccessTestCase):
    """Where the settings let in who sits at this machine."""

    def test_open(self) -> None:
        """No key is needed, on any loopback address."""
        access = self.access(open_on_loopback=True)
        for host in ("127.0.0.1", "127.8.8.8"):
            self.assertIsNone(self.ask(access, IPv4Address("TCP", host, 1)))
        for host in ("::1", "::ffff:127.0.0.1"):
            self.assertIsNone(self.ask(access, IPv6Address("TCP", host, 1)))

    def test_not_from_elsewhere(self) -> None:
        """From another address, or none that is known, the key is needed."""
        access = self.access(open_on_loopback=True)
        for address in (OUTSIDE, UNIXAddress("/run/oni.sock"), None):
            denial = self.ask(access, address)
            assert denial is not None
            self.assertEqual("off", denial.code)
        self.assertIsNone(self.ask(self.access(key=KEY, open_on_loopback=True), x_admin_key=KEY))

    def test_not_through_a_proxy(self) -> None:
        """What a proxy passes on only looks as if it came from here."""
        for header in ("forwarded", "via", "x_forwarded_for", "x_real_ip", "x_forwarded_proto"):
            with self.subTest(header):
                access = self.access(open_on_loopback=True)
                self.assertIsNotNone(self.ask(access, INSIDE, **{header: "127.0.0.1"}))

    def test_not_by_another_name(self) -> None:
        """A page that was led here by a name of its own is not let in, whoever serves us."""
        access = self.access(open_on_loopback=True)
        for host in ("evil.example", "evil.example:8000", ""):
            self.assertIsNotNone(self.ask(access, INSIDE, host=host))

    def test_not_with_other_settings(self) -> None:
        """What the settings file would refuse is not open either when it is set in a program."""
        for server in (
            ServerSettings(listen=("tcp:8000",)),
            ServerSettings(allowed_hosts=("events.example.org",)),
        ):
            access = self.access(server, open_on_loopback=True)
            self.assertIsNotNone(self.ask(access, INSIDE))

    def test_not_for_other_pages(self) -> None:
        """A page from elsewhere, in a browser on this machine, is refused."""
        access = self.access(open_on_loopback=True)
        own = "http://localhost:8000"
        self.assertIsNone(self.ask(access, INSIDE, origin=own, sec_fetch_site="same-origin"))
        for headers in (
            {"origin": "https://evil.example"},
            {"origin": "null"},
            {"origin": "http://localhost:9000"},
            {"sec_fetch_site": "cross-site"},
            {"sec_fetch_site": "same-site"},
        ):
            with self.subTest(headers):
                denial = self.ask(access, INSIDE, **headers)
                assert denial is not None
                self.assertEqual((403, "foreign"), (denial.status, denial.code))
