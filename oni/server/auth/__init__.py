"""Who may do what: tokens, the keys that prove them, and permissions.

Importing this package does not import PyJWT; its parts are imported when they are asked for.
"""

from __future__ import annotations

from oni.server.auth._making import make_token

__all__ = ["make_token"]
