"""How the ledger's tables come to be, and change."""

__all__ = ()
