"""Which file system a file is on."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from oni.ledger._filesystems import _NETWORK, filesystem_of, is_on_network

MOUNTS = r"""
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
23 22 0:40 / /srv/net rw - nfs4 server:/export rw,vers=4.2
24 22 0:41 / /srv/net/deeper rw - tmpfs tmpfs rw
25 22 0:42 / /with\040blank rw master:2 - fuse.sshfs me@there: rw
26 22 0:43 / /twice rw - ext4 /dev/sdb1 rw
27 22 0:44 / /twice rw - cifs //server/share rw
""".strip()


class FilesystemTests(SynchronousTestCase):
    """A list of mounts as Linux writes it."""

    def test_found(self) -> None:
        """The longest mount point counts, and of equal ones the last."""
        for path, expected in {
            "/var/lib/ledger.db": "ext4",
            "/srv/net/ledger.db": "nfs4",
            "/srv/network/ledger.db": "ext4",
            "/srv/net/deeper/ledger.db": "tmpfs",
            "/with blank/ledger.db": "fuse.sshfs",
            "/twice/ledger.db": "cifs",
        }.items():
            self.assertEqual(filesystem_of(Path(path), MOUNTS), expected, path)

    def test_nothing_known(self) -> None:
        """Where nothing is told, nothing is found."""
        self.assertEqual(filesystem_of(Path("/a"), ""), "")

    def test_which_are_networks(self) -> None:
        """Network file systems are known by their types."""
        for name in ("nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "fuse.sshfs"):
            self.assertTrue(_NETWORK.fullmatch(name), name)
        for name in ("ext4", "tmpfs", "overlay", "btrfs", "fuseblk", ""):
            self.assertFalse(_NETWORK.fullmatch(name), name)

    def test_here(self) -> None:
        """What keeps processes is no network."""
        self.assertFalse(is_on_network(Path("/proc")))
