"""Which file system a file is on, as Linux tells."""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["filesystem_of", "is_on_network"]

_MOUNTS = Path("/proc/self/mountinfo")
_NETWORK = re.compile(
    r"(nfs\d?|cifs|smb\d?|smbfs|9p|afs|ceph|coda|glusterfs|lustre|beegfs|gpfs|ncpfs|orangefs"
    r"|fuse\.(sshfs|glusterfs|ceph|s3fs|gcsfuse|rclone|davfs2?|smbnetfs|mfs|juicefs))"
)


def is_on_network(path: Path) -> bool:
    """Say whether a file is on a network file system. False where that cannot be seen."""
    try:
        mounts = _MOUNTS.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return False
    return _NETWORK.fullmatch(filesystem_of(path, mounts)) is not None


def filesystem_of(path: Path, mounts: str) -> str:
    """Give the type of the file system that a path is on, ``""`` if it is not to be found.

    Args:
        path: An absolute path without symbolic links.
        mounts: What proc(5) calls mountinfo: the mount point is its fifth field, and the type the
            first one after a lone dash. Blanks in names are written as octal numbers.
    """
    best, found = -1, ""
    for line in mounts.splitlines():
        fields, _, rest = line.partition(" - ")
        point = Path(re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), _fifth(fields)))
        # Of equal ones the last counts: it lies over the others.
        if path.is_relative_to(point) and len(point.parts) >= best:
            best, found = len(point.parts), rest.split(" ")[0]
    return found


def _fifth(fields: str) -> str:
    parts = fields.split(" ")
    return parts[4] if len(parts) > 4 else ""
