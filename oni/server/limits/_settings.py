"""The limits that ``[server]`` sets, besides those of the connection itself."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

__all__ = ["LimitSettings"]


class LimitSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How much is let in, from whom, and how fast."""

    max_connections_per_address: Annotated[
        int,
        Meta(
            ge=1,
            description="Connections from one address at once, at most. The addresses of an IPv6 "
            "network of 64 bits are one.",
        ),
    ] = 20
    max_connections_per_user: Annotated[
        int,
        Meta(
            ge=1,
            description="Sessions of one user at once, at most. Those that nobody knows are not "
            "counted.",
        ),
    ] = 10
    trusted_proxies: Annotated[
        tuple[str, ...],
        Meta(
            description="Addresses and networks of proxies, like '10.0.0.0/8'; 'unix' for those "
            "that connect to a unix socket. What they say in X-Forwarded-For is believed, and "
            "nobody else's."
        ),
    ] = ()
    max_handshakes_per_second: Annotated[
        float,
        Meta(
            gt=0,
            description="Websockets that are opened in a second, at most; a tenth of that at "
            "once. More are told with 503 when to come back.",
        ),
    ] = 100.0
    max_request_line_bytes: Annotated[
        int, Meta(ge=16, description="Bytes in a request's first line, and in each header.")
    ] = 8192
    max_request_headers: Annotated[
        int, Meta(ge=1, description="Headers of a request, at most.")
    ] = 64
    body_timeout: Annotated[
        float, Meta(gt=0, description="Seconds in which a request's body must be complete.")
    ] = 30.0
    idle_timeout: Annotated[
        float,
        Meta(gt=0, description="Seconds that an HTTP connection may do nothing."),
    ] = 60.0
    max_message_fragments: Annotated[
        int, Meta(ge=1, description="Frames of which a websocket message may be, at most.")
    ] = 128
    max_bytes_per_second: Annotated[
        float,
        Meta(
            ge=65536,
            description="Bytes that a websocket client may send in a second; twice that at once. "
            "With more it is not read from for a while.",
        ),
    ] = 262144.0
    max_pings_per_second: Annotated[
        float,
        Meta(
            ge=1,
            description="Pings and pongs of the websocket itself that a client may send in a "
            "second; twice that at once.",
        ),
    ] = 10.0
    max_commands_per_second: Annotated[
        float,
        Meta(
            ge=1,
            description="Commands that a client may send in a second; twice that at once. With "
            "more they wait, and it is not read from for a while.",
        ),
    ] = 50.0
    max_recoveries: Annotated[
        int,
        Meta(
            ge=1,
            description="Clients for which the history is read at once, at most. Others wait for "
            "their turn.",
        ),
    ] = 16
    drain_timeout: Annotated[
        float,
        Meta(
            gt=0,
            description="Seconds in which a client must take what it was sent: about 64 KiB. One "
            "that reads more slowly than that is disconnected.",
        ),
    ] = 30.0
