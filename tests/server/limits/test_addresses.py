"""Where clients really are, whatever they say about it."""

from __future__ import annotations

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.trial.unittest import SynchronousTestCase

from oni.server.limits import Addresses, Proxies, is_proxy


def tcp(host: str) -> IPv4Address:
    """Give the address of a connection."""
    return IPv4Address("TCP", host, 4711)


def tcp6(host: str) -> IPv6Address:
    """Give the address of a connection."""
    return IPv6Address("TCP", host, 4711)


class ProxiesTests(SynchronousTestCase):
    """Whom to believe."""

    proxies = Proxies(["127.0.0.1", "10.0.0.0/8", "fd00::/8"])

    def client(self, peer: str, *forwarded: bytes) -> str:
        """Say who is behind this connection."""
        return self.proxies.client(tcp(peer), forwarded)

    def test_nobody_is_believed(self) -> None:
        """Without proxies of ours, the header says nothing."""
        self.assertEqual(Proxies([]).client(tcp("127.0.0.1"), [b"1.2.3.4"]), "127.0.0.1")
        self.assertEqual(self.client("192.0.2.1", b"1.2.3.4"), "192.0.2.1")
        self.assertFalse(Proxies([]).are_trusted(UNIXAddress(None)))

    def test_one_proxy(self) -> None:
        """What our proxy has added is believed, and nothing that stands left of it."""
        self.assertEqual(self.client("127.0.0.1", b"203.0.113.7"), "203.0.113.7")
        self.assertEqual(self.client("127.0.0.1", b"1.1.1.1, 203.0.113.7"), "203.0.113.7")
        self.assertEqual(self.client("127.0.0.1", b"1.1.1.1", b"203.0.113.7"), "203.0.113.7")
        self.assertEqual(self.client("127.0.0.1", b"nonsense, 203.0.113.7"), "203.0.113.7")

    def test_several_proxies(self) -> None:
        """Proxies of ours that stand behind each other are passed over."""
        self.assertEqual(self.client("10.1.1.1", b"9.9.9.9, 203.0.113.7, 10.2.2.2"), "203.0.113.7")
        self.assertEqual(self.client("10.1.1.1", b"10.3.3.3, 10.2.2.2"), "10.3.3.3")

    def test_nonsense(self) -> None:
        """At what is no address the way ends: the last proven one counts."""
        for header in (b"", b"unknown", b"1.2.3.4, <script>", b"1.2.3.999", b"\xff", b",,,"):
            self.assertEqual(self.client("127.0.0.1", header), "127.0.0.1", header)
        self.assertEqual(self.client("10.1.1.1", b"evil, 10.2.2.2"), "10.2.2.2")

    def test_endless_list(self) -> None:
        """A list that does not end is not read to its end."""
        self.assertEqual(self.client("10.1.1.1", b"1.1.1.1" + b",10.0.0.9" * 100_000), "10.0.0.9")

    def test_ports(self) -> None:
        """Some proxies write ports, and IPv6 in brackets."""
        self.assertEqual(self.client("127.0.0.1", b"203.0.113.7:5000"), "203.0.113.7")
        self.assertEqual(self.client("127.0.0.1", b"[2001:db8::1]:5000"), "2001:db8::/64")

    def test_six(self) -> None:
        """A whole IPv6 network is one client, and IPv4 within IPv6 is IPv4."""
        for host in ("2001:db8::1", "2001:db8::ffff:1", "2001:db8:0:0:1::"):
            self.assertEqual(self.proxies.client(tcp6(host)), "2001:db8::/64")
        self.assertEqual(self.proxies.client(tcp6("2001:db8:0:1::1")), "2001:db8:0:1::/64")
        self.assertEqual(self.proxies.client(tcp6("::ffff:192.0.2.1")), "192.0.2.1")
        self.assertTrue(self.proxies.are_trusted(tcp6("::ffff:10.1.2.3")))
        self.assertTrue(self.proxies.are_trusted(tcp6("fd00::1%eth0")))

    def test_unix(self) -> None:
        """What comes over a unix socket comes from a proxy where the settings say so."""
        proxies = Proxies(["unix"])
        self.assertTrue(proxies.are_trusted(UNIXAddress(None)))
        self.assertEqual(proxies.client(UNIXAddress(None), [b"203.0.113.7"]), "203.0.113.7")
        self.assertEqual(proxies.client(UNIXAddress(None)), "")

    def test_settings(self) -> None:
        """What a proxy is called is checked."""
        for text in ("127.0.0.1", "10.0.0.0/8", "::1", "unix"):
            self.assertTrue(is_proxy(text), text)
        for text in ("", "localhost", "10.0.0.1/8", "*", "1.2.3"):
            self.assertFalse(is_proxy(text), text)


class AddressesTests(SynchronousTestCase):
    """How many connections each address has."""

    def test_most(self) -> None:
        """Each address has its own number, and nothing is left of one that has gone."""
        addresses = Addresses(2)
        self.assertEqual([addresses.enter("a") for _ in range(3)], [True, True, False])
        self.assertTrue(addresses.enter("b"))
        addresses.leave("a")
        self.assertTrue(addresses.enter("a"))
        self.assertEqual(addresses.statistics(), {"addresses": 2})
        for key in "aab":
            addresses.leave(key)
        self.assertEqual(len(addresses), 0)
