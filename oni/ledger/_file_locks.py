"""Owners that can be seen to live by a lock on a file, which the kernel ends with the process."""

from __future__ import annotations

import fcntl
import os
import weakref
from contextlib import suppress
from pathlib import Path

__all__ = ["FileLocks"]


class FileLocks:
    """A directory with one file for each owner. Who lives has a lock on its own.

    It may be used in any thread, and any number of owners may live in one process.

    Args:
        directory: Where the files are. It is made when the first owner enters.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._held: dict[str, int] = {}
        _every.add(self)

    def enter(self, owner: str) -> None:
        """Take an owner's lock, or see that it is still there: somebody may remove files."""
        path = self._directory / owner
        held = self._held.get(owner)
        if held is not None and _is_at(path, held):
            return
        self._directory.mkdir(exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._held[owner] = descriptor
        if held is not None:
            os.close(held)

    def leave(self, owner: str) -> None:
        """Let an owner's lock go, and its file."""
        descriptor = self._held.pop(owner, None)
        if descriptor is not None:
            with suppress(FileNotFoundError):
                os.unlink(self._directory / owner)
            os.close(descriptor)

    def is_alive(self, owner: str) -> bool:
        """Say whether somebody has an owner's lock. The file of one who is dead is removed."""
        if not owner.isalnum():
            return True  # not one of ours: its lease decides
        try:
            descriptor = os.open(self._directory / owner, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        else:
            with suppress(FileNotFoundError):
                os.unlink(self._directory / owner)
            return False
        finally:
            os.close(descriptor)

    def close(self) -> None:
        """Let every owner leave."""
        for owner in list(self._held):
            self.leave(owner)

    def forget(self) -> None:
        """Let go in a process that was forked, where the locks are its parent's."""
        for descriptor in self._held.values():
            os.close(descriptor)
        self._held.clear()


def _is_at(path: Path, descriptor: int) -> bool:
    """Say whether a descriptor is that of the file at a path."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


_every: weakref.WeakSet[FileLocks] = weakref.WeakSet()


def _forget_all() -> None:
    for locks in list(_every):
        locks.forget()


# A lock lives as long as any process has its file open: a child would keep its dead parent alive.
os.register_at_fork(after_in_child=_forget_all)
