"""Which store a URL names."""

from __future__ import annotations

from importlib import import_module

from oni.errors import LedgerUrlError, MissingExtraError
from oni.interfaces import ILedgerStore
from oni.ledger._memory import MemoryStore

__all__ = ["store_for"]


def store_for(url: str, namespace: str = "oni") -> ILedgerStore:
    """Make the store that a URL names.

    Args:
        url: ``memory:``, ``sqlite:////path/of/a/file`` or
            ``postgresql://user:password@host/database``.
        namespace: What idempotency keys begin with.

    Raises:
        LedgerUrlError: No store has this scheme.
        MissingExtraError: What this store needs is not installed.
    """
    scheme = url.partition(":")[0]
    if url == "memory:":
        return MemoryStore(namespace)
    if scheme.partition("+")[0] not in ("sqlite", "postgresql"):
        raise LedgerUrlError(f"{scheme}:...", "it begins with memory:, sqlite:// or postgresql://")
    extra = "sql,postgres" if scheme.startswith("postgresql") else "sql"
    try:
        module = import_module("oni.ledger.sqlalchemy")
        store: ILedgerStore = module.SqlAlchemyStore.from_url(url, namespace)
    except ImportError as error:
        raise MissingExtraError(f"the ledger at {scheme}:", extra, error) from error
    return store
