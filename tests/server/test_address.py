"""Where a daemon is found, read from what it listens on."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from oni.server import local_address


class LocalAddress(SynchronousTestCase):
    """The first listener that can be told beforehand counts."""

    def test_ports(self) -> None:
        """Port, scheme and interface are those of the description."""
        for description, address in {
            "tcp:8000": "http://127.0.0.1:8000",
            "tcp:port=8000": "http://127.0.0.1:8000",
            "tcp:8000:interface=127.0.0.1": "http://127.0.0.1:8000",
            "tcp:8000:interface=0.0.0.0": "http://127.0.0.1:8000",
            "tcp:8000:interface=10.1.2.3:backlog=5": "http://10.1.2.3:8000",
            "tcp6:8000": "http://[::1]:8000",
            r"tcp6:8000:interface=fd00\:\:7": "http://[fd00::7]:8000",
            r"ssl:8443:privateKey=a\:b.pem:certKey=c.pem": "https://127.0.0.1:8443",
        }.items():
            self.assertEqual(address, local_address([description]), description)

    def test_what_is_not_known(self) -> None:
        """A socket file has no address, nor has a port that the system chooses."""
        self.assertIsNone(local_address(["unix:/run/oni.sock", "tcp:0"]))
        self.assertEqual("http://127.0.0.1:81", local_address(["unix:/run/oni.sock", "tcp:81"]))
