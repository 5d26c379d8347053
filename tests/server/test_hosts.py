"""Requests that name a host of ours are meant for us."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from oni.server._hosts import host_is_allowed, own_hosts


class HostTests(SynchronousTestCase):
    """Tests of :func:`oni.server._hosts.host_is_allowed`."""

    ours = own_hosts(("localhost", "127.0.0.1", "[::1]", "Example.org"))

    def test_ours(self) -> None:
        """A name of ours is accepted, with and without a port."""
        for host in (
            b"localhost",
            b"LOCALHOST:8000",
            b"[::1]:8000",
            b"[::1]",
            b"example.org:1",
            b"localhost:",
        ):
            self.assertTrue(host_is_allowed([host], self.ours), host)

    def test_others(self) -> None:
        """Any other is not, nor none, nor two."""
        for hosts in (
            [],
            [b""],
            [b"evil.example"],
            [b"localhost.evil.example"],
            [b"localhost:8000.evil.example"],
            [b"localhost:80:80"],
            [b"localhost:80a"],
            [b"localhost:-1"],
            [b"localhost:\xb2"],
            [b"localhost."],
            [b"::1"],
            [b"localhost", b"localhost"],
            [b"\xff"],
        ):
            self.assertFalse(host_is_allowed(hosts, self.ours), hosts)
