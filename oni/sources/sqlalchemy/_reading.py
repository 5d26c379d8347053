"""Sessions that only read: with SQLite they wait for nobody who writes, and let others write."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

__all__ = ["Reading"]


class Reading:
    """Makes sessions that are read from.

    What is loaded in one is not forgotten when a transaction ends.

    Args:
        make_session: Makes a session.
    """

    def __init__(self, make_session: Callable[[], Session]) -> None:
        self._make_session = make_session
        # The same one each time, as a session has a connection for each engine.
        self._readers: dict[sa.Engine, sa.Engine] = {}

    def __call__(self) -> Session:
        """Make one."""
        session = self._make_session()
        session.expire_on_commit = False
        find = session.get_bind

        def get_bind(*args: Any, **named: Any) -> sa.Engine | sa.Connection:
            bind = find(*args, **named)
            if not isinstance(bind, sa.Engine) or bind.dialect.name != "sqlite":
                return bind
            if bind not in self._readers:
                self._readers[bind] = bind.execution_options(oni_read=True)
            return self._readers[bind]

        session.get_bind = get_bind  # type: ignore[method-assign]
        return session
