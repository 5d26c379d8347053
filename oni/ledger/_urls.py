"""Which store a URL names."""

from __future__ import annotations

from importlib import import_module

from oni.errors import LedgerUrlError, MissingExtraError
from oni.interfaces import ILedgerStore
from oni.ledger._memory import MemoryStore

__all__ = ["store_for"]

# The extra that brings what a scheme's store needs, and where the store is.
_SQL = ("oni.ledger.sqlalchemy", "SqlAlchemyStore")
_REDIS = ("redis", "oni.ledger.redis", "RedisStore")
_STORES = {
    "sqlite": ("sql", *_SQL),
    "postgresql": ("sql,postgres", *_SQL),
    "redis": _REDIS,
    "rediss": _REDIS,
}


def store_for(url: str, namespace: str = "oni") -> ILedgerStore:
    """Make the store that a URL names.

    Args:
        url: ``memory:``, ``sqlite:////path/of/a/file``,
            ``postgresql://user:password@host/database`` or ``redis://user:password@host/0``.
        namespace: What idempotency keys begin with.

    Raises:
        LedgerUrlError: No store has this scheme.
        MissingExtraError: What this store needs is not installed.
    """
    scheme = url.partition(":")[0]
    if url == "memory:":
        return MemoryStore(namespace)
    found = _STORES.get(scheme.partition("+")[0])
    if found is None:
        raise LedgerUrlError(
            f"{scheme}:...", "it begins with memory:, sqlite://, postgresql:// or redis://"
        )
    extra, module, name = found
    try:
        store: ILedgerStore = getattr(import_module(module), name).from_url(url, namespace)
    except ImportError as error:
        raise MissingExtraError(f"the ledger at {scheme}:", extra, error) from error
    return store
