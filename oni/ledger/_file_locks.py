"""Owners that can be seen to live by a lock on a file, which the kernel ends with the process."""

from __future__ import annotations

import fcntl
import os
import time
import weakref
from contextlib import ExitStack, suppress
from pathlib import Path

__all__ = ["FileLocks"]

_OWNER = 32  # letters and digits of an owner's name
_WITHIN = 5.0  # seconds


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
        self._held[owner] = _locked(path)
        if held is not None:
            os.close(held)
        else:
            self._remove_the_dead()

    def _remove_the_dead(self) -> None:
        """Remove the files of those that died: if they ran nothing, nobody else looks for them."""
        for name in os.listdir(self._directory):
            if len(name) == _OWNER:
                self.is_alive(name)

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
        except PermissionError:
            return True  # another user's: its lease decides
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


def _locked(path: Path) -> int:
    """Make a file and lock it.

    Who looks in between takes it for a dead one's, and has removed it a moment later.
    """
    deadline = time.monotonic() + _WITHIN
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with ExitStack() as stack:
            stack.callback(os.close, descriptor)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
                continue
            if _is_at(path, descriptor):
                stack.pop_all()
                return descriptor


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
