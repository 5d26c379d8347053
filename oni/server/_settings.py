"""The daemon's settings: what there is, what it means and what holds where nothing is said.

The defaults are safe and useless on purpose: the daemon listens on loopback and nobody may
connect. :mod:`oni.server._settings_file` reads them from a file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from oni.errors import OniError
from oni.server._admin_settings import AdminSettings
from oni.server._collector_settings import CollectorSettings
from oni.server._ledger_settings import LedgerSettings
from oni.server._listeners_settings import NO_LISTENERS, ListenerSettings
from oni.server._running_settings import LogSettings, MetricsSettings, RunningSettings
from oni.server._sources_settings import SourcesSettings
from oni.server._tables import words_for
from oni.server._watchers_settings import NO_WATCHERS, WatcherSettings, doubts_of
from oni.server.auth._permissions import WhoMay, WhoSubscribes, demands
from oni.server.auth._settings import AuthSettings
from oni.server.limits import LimitSettings
from oni.values import Phase, StreamOptions

__all__ = [
    "ACT_DETAILS",
    "ACT_PHASES",
    "ApiSettings",
    "AppSettings",
    "AuthSettings",
    "BackendSettings",
    "ChannelRules",
    "ChannelsSettings",
    "DispatcherSettings",
    "SECTIONS",
    "ServerSettings",
    "SettingInfo",
    "Settings",
    "ZcaSettings",
    "describe",
]

ACT_DETAILS = ("action", "channel", "namespace", "event", "user", "client")
"""The details that every act has, and so the keywords that are always allowed."""

ACT_PHASES = (
    Phase("before", on_error="abort", concurrent=False),
    Phase("during"),
    Phase("after", always=True, holds_turn=False),
)
"""The phases of an act. A settings file may add others between them, never move them."""

_LOOPBACK = ("127.", "localhost", "::1", r"\:\:1")


class ServerSettings(LimitSettings, frozen=True, kw_only=True):
    """``[server]``: where the daemon listens, whom it answers, and its limits."""

    listen: Annotated[
        tuple[str, ...],
        Meta(min_length=1, description="Where to listen, as Twisted endpoint descriptions."),
    ] = ("tcp:8000:interface=127.0.0.1",)
    allowed_origins: Annotated[
        tuple[str, ...],
        Meta(
            description="Origins besides the page's own from which a browser may connect, like "
            "'https://example.org'."
        ),
    ] = ()
    allowed_hosts: Annotated[
        tuple[str, ...],
        Meta(description="Host names, without port, under which a request may reach the daemon."),
    ] = ("localhost", "127.0.0.1", "[::1]")
    max_message_bytes: Annotated[
        int, Meta(ge=1, description="Bytes in a websocket message, at most.")
    ] = 65536
    max_request_head_bytes: Annotated[
        int, Meta(ge=1, description="Bytes in a request's line and headers, at most.")
    ] = 16384
    max_body_bytes: Annotated[
        int, Meta(ge=1, description="Bytes in the body of an HTTP request, at most.")
    ] = 1048576
    handshake_timeout: Annotated[
        float, Meta(gt=0, description="Seconds in which a request's head must be complete.")
    ] = 5.0
    connect_timeout: Annotated[
        float,
        Meta(gt=0, description="Seconds in which a websocket client must send its connect."),
    ] = 10.0
    ping_interval: Annotated[
        int, Meta(ge=1, description="Seconds between two pings to a client.")
    ] = 25
    pong_timeout: Annotated[
        float,
        Meta(gt=0, description="Seconds in which a client must answer a ping; less than that."),
    ] = 10.0
    close_timeout: Annotated[
        float, Meta(gt=0, description="Seconds in which a closed connection must end.")
    ] = 5.0
    stop_timeout: Annotated[
        float,
        Meta(
            gt=0,
            description="Seconds in which the daemon has stopped after SIGTERM. A second later "
            "a process that still runs is ended, and says on standard error what it was doing.",
        ),
    ] = 10.0
    max_connections: Annotated[
        int, Meta(ge=1, description="Connections open at once, at most.")
    ] = 1000
    max_channels_per_connection: Annotated[
        int, Meta(ge=1, description="Channels that one connection is subscribed to, at most.")
    ] = 128


class ApiSettings(msgspec.Struct, frozen=True, kw_only=True):
    """``[api]``: the HTTP API."""

    key: Annotated[
        Annotated[str, Meta(min_length=16)] | None,
        Meta(description="What the header X-API-Key must say. Without it the API is off."),
    ] = None
    key_file: Annotated[
        Annotated[str, Meta(min_length=1)] | None,
        Meta(
            description="A file that holds that key instead, relative to the settings file. Space "
            "around it does not count."
        ),
    ] = None

    def __repr__(self) -> str:
        """Say whether there is a key, not which."""
        return f"ApiSettings(key={'...' if self.key else None})"


class ChannelRules(msgspec.Struct, frozen=True, kw_only=True):
    """``[channels]`` and ``[channels.NAMESPACE]``: these channels, and what clients may do."""

    publish: Annotated[
        WhoMay,
        Meta(
            description="Which clients may publish. 'authenticated': those whose user is known. "
            "'subscriber': those that are subscribed to the channel. Of a list, all must hold."
        ),
    ] = False
    subscribe: Annotated[
        WhoSubscribes,
        Meta(
            description="Which clients may subscribe. 'authenticated': those whose user is known. "
            "'token': those with a subscription token for the channel. Of a list, all must hold."
        ),
    ] = False
    read_history: Annotated[
        WhoMay,
        Meta(description="Which clients may ask for publications that are kept, as publish."),
    ] = "subscriber"
    read_presence: Annotated[
        WhoMay, Meta(description="Which clients may ask who is subscribed, as publish.")
    ] = "subscriber"
    event_from: Annotated[
        Annotated[str, Meta(min_length=1)] | None,
        Meta(
            description="The string field of a client's data that names the event. Without it "
            "the event is 'message'."
        ),
    ] = None
    history_size: Annotated[
        int,
        Meta(
            ge=0,
            description="Publications that are kept, at most; 0 for none. It needs history_ttl.",
        ),
    ] = 0
    history_ttl: Annotated[
        float,
        Meta(
            ge=0,
            description="Seconds after its last publication for which a channel's are kept; 0 for "
            "none. It needs history_size.",
        ),
    ] = 0.0
    recover: Annotated[
        bool,
        Meta(
            description="Whether a client that comes back gets what it missed, where publications "
            "are kept."
        ),
    ] = True
    presence: Annotated[bool, Meta(description="Whether it is known who is subscribed.")] = False
    join_leave: Annotated[
        bool,
        Meta(description="Whether subscribers that ask for it are told who comes and goes."),
    ] = False
    behind: Annotated[
        Literal["gap", "latest", "disconnect"],
        Meta(
            description="What happens to a subscriber that reads too slowly. 'gap': when "
            "publications are gone for it, it is told, and goes on. 'latest': it gets the newest "
            "only. 'disconnect': as 'gap', and after max_lag it is disconnected."
        ),
    ] = "gap"
    latest_by: Annotated[
        str,
        Meta(
            description="With behind = 'latest': the newest for each value of this tag. Without "
            "it: the newest of all."
        ),
    ] = ""
    max_lag: Annotated[
        float,
        Meta(gt=0, description="With behind = 'disconnect': seconds that one may be behind."),
    ] = 30.0
    ring_entries: Annotated[
        int,
        Meta(
            ge=1,
            description="Publications of a channel that wait in memory for its subscribers, at "
            "most. Who is further behind reads the history.",
        ),
    ] = 256
    ring_bytes: Annotated[
        int, Meta(ge=1, description="Bytes that these may have, in all encodings.")
    ] = 1048576
    max_publish_bytes: Annotated[
        int, Meta(ge=1, description="Bytes of a publication's data, at most.")
    ] = 1048576

    @property
    def stream(self) -> StreamOptions:
        """How the streams of these channels are kept."""
        return StreamOptions(
            history_size=self.history_size,
            history_ttl=self.history_ttl,
            ring_entries=self.ring_entries,
            ring_bytes=self.ring_bytes,
            behind=self.behind,
            latest_by=self.latest_by,
            max_lag=self.max_lag,
        )

    @property
    def recovers(self) -> bool:
        """Whether a client that comes back may get what it missed."""
        return self.recover and self.stream.keeps_history


class ChannelsSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The rules of all channels.

    Attributes:
        defaults: Hold for names without a colon, and for what a namespace does not say.
        namespaces: The rules by namespace, complete.
    """

    defaults: ChannelRules = ChannelRules()
    namespaces: Mapping[str, ChannelRules] = MappingProxyType({})

    def tables(self) -> Iterator[tuple[str, ChannelRules]]:
        """Give the rules of all, each with the path of its table."""
        yield "channels", self.defaults
        yield from ((f"channels.{name}", rules) for name, rules in self.namespaces.items())


class BackendSettings(msgspec.Struct, frozen=True, kw_only=True):
    """``[backend]``: where channels keep their data."""

    url: Annotated[
        str, Meta(description="Which backend: 'memory:' keeps everything in this process.")
    ] = "memory:"
    ring_bytes: Annotated[
        int,
        Meta(
            ge=1,
            description="Bytes that the publications of all channels that wait in memory for "
            "subscribers may have together. Channels that nobody reads give way first.",
        ),
    ] = 67108864


class DispatcherSettings(msgspec.Struct, frozen=True, kw_only=True):
    """``[dispatcher]``: how the server's dispatcher is made.

    Attributes:
        phases: All phases, in order.
    """

    allowed_match_spec_keywords: Annotated[
        tuple[str, ...],
        Meta(
            description="Keywords for the application's own events, besides those of an act: "
            + ", ".join(ACT_DETAILS)
            + "."
        ),
    ] = ()
    phases: Annotated[
        tuple[Phase, ...],
        Meta(
            description="The phases, in order: names or tables (name, on_error, concurrent, "
            "timeout, always, holds_turn). 'before', 'during' and 'after' are kept, in this "
            "order; of them only the timeout can be set."
        ),
    ] = ACT_PHASES
    order_by: Annotated[
        tuple[str, ...],
        Meta(
            description="Events with equal details in these keywords are handled one at a time. "
            "An empty list: all events are."
        ),
    ] = ("channel", "client")

    @property
    def keywords(self) -> tuple[str, ...]:
        """Every keyword that match specs and details may name."""
        return tuple(dict.fromkeys((*ACT_DETAILS, *self.allowed_match_spec_keywords)))


class AppSettings(msgspec.Struct, frozen=True, kw_only=True):
    """``[app]``: the application."""

    configure: Annotated[
        str | None,
        Meta(
            description="The function that registers the application's handlers, as "
            "'module:function'. It is called once, with the Oni, before anything listens. The "
            "module may lie beside the settings file."
        ),
    ] = None


class ZcaSettings(msgspec.Struct, frozen=True, kw_only=True):
    """``[zca]``: the Zope component architecture."""

    name: Annotated[
        str,
        Meta(description="The name of the dispatcher's and the channels' utility registration."),
    ] = ""
    zcml: Annotated[
        str | None,
        Meta(
            description="A ZCML file to load, relative to the settings file. It is loaded before "
            "configure is called."
        ),
    ] = None


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that can be set.

    Attributes:
        listeners: The tables ``[listeners.NAME]``, as the file has them.
        watchers: The tables ``[watchers.NAME]``, as the file has them.
        folder: Where the settings file lies, None without one. Relative names start there.
    """

    server: ServerSettings = ServerSettings()
    auth: AuthSettings = AuthSettings()
    api: ApiSettings = ApiSettings()
    admin: AdminSettings = AdminSettings()
    channels: ChannelsSettings = ChannelsSettings()
    backend: BackendSettings = BackendSettings()
    dispatcher: DispatcherSettings = DispatcherSettings()
    running: RunningSettings = RunningSettings()
    log: LogSettings = LogSettings()
    metrics: MetricsSettings = MetricsSettings()
    collector: CollectorSettings = CollectorSettings()
    ledger: LedgerSettings = LedgerSettings()
    sources: SourcesSettings = SourcesSettings()
    listeners: Mapping[str, Mapping[str, Any]] = NO_LISTENERS
    watchers: Mapping[str, Any] = NO_WATCHERS
    app: AppSettings = AppSettings()
    zca: ZcaSettings = ZcaSettings()
    folder: str | None = None

    def rules_for(self, channel: str) -> ChannelRules | None:
        """Give the rules of a channel, by the part of its name before the first colon.

        Returns:
            The rules, or None: it is in a namespace that the settings do not name.
        """
        namespace, colon, _ = channel.partition(":")
        return self.channels.namespaces.get(namespace) if colon else self.channels.defaults

    def stream_of(self, channel: str) -> StreamOptions:
        """Say how a channel's stream is kept."""
        rules = self.rules_for(channel)
        return StreamOptions() if rules is None else rules.stream

    def secrets(self) -> tuple[str, ...]:
        """Give what must never stand in a log."""
        found = (self.api.key, self.admin.key, self.metrics.key, self.auth.hmac_secret)
        return tuple(secret for secret in found if secret is not None)

    @property
    def listens_on_loopback(self) -> bool:
        """Whether only this machine reaches the daemon, but for proxies."""
        return all(map(_is_loopback, self.server.listen))

    def warnings(self) -> tuple[str, ...]:
        """Say what is allowed but probably not meant, one sentence each."""
        found = []
        if not self.listens_on_loopback:
            hosts = self.server.allowed_hosts
            if hosts == ServerSettings().allowed_hosts:
                found.append(
                    "server.listen reaches beyond loopback, but server.allowed_hosts only has "
                    "loopback's names: requests that name another host are refused"
                )
            if self.auth.anonymous:
                found.append(
                    "server.listen reaches beyond loopback and auth.anonymous is true: everyone "
                    "who reaches the port may connect"
                )
        if not self.auth.proves_tokens:
            found += [
                f"{path}.subscribe wants a token, but [auth] has nothing to prove tokens with: "
                "nobody may subscribe"
                for path, rules in self.channels.tables()
                if demands(rules.subscribe, "token")
            ]
        found += doubts_of(self.watchers)
        return tuple(found)


def _is_loopback(description: str) -> bool:
    if description.startswith(("unix:", "fd:")):
        return True
    _, _, interface = description.partition("interface=")
    return interface.startswith(_LOOPBACK)


SECTIONS: dict[str, type[msgspec.Struct]] = {
    "server": ServerSettings,
    "auth": AuthSettings,
    "api": ApiSettings,
    "admin": AdminSettings,
    "channels": ChannelRules,
    "backend": BackendSettings,
    "dispatcher": DispatcherSettings,
    "running": RunningSettings,
    "log": LogSettings,
    "metrics": MetricsSettings,
    "collector": CollectorSettings,
    "ledger": LedgerSettings,
    "sources": SourcesSettings,
    "listeners.NAME": ListenerSettings,
    "watchers.NAME": WatcherSettings,
    "app": AppSettings,
    "zca": ZcaSettings,
}
"""What each section of a file is; ``[channels]`` holds tables of the same kind besides."""


# --- Describing ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SettingInfo:
    """What there is to know about one key.

    Attributes:
        path: Section and key, like ``server.listen``.
        kind: Which values it takes, in words.
        default: The default, as TOML; ``""`` where the key is simply absent.
        help: What it means.
    """

    path: str
    kind: str
    default: str
    help: str


def describe() -> Sequence[SettingInfo]:
    """List every key there is, in the order of the sections."""
    return tuple(
        SettingInfo(
            path=f"{section}.{field.name}",
            kind=_kind(field),
            default=_toml(field.default),
            help=_help(field.type),
        )
        for section, struct in SECTIONS.items()
        for field in _own_first(struct)
    )


def _own_first(struct: type[msgspec.Struct]) -> Sequence[msgspec.structs.FieldInfo]:
    """Give the fields of a table, and then those that it has from another module."""
    fields = msgspec.structs.fields(struct)
    return sorted(fields, key=lambda field: field.name not in struct.__annotations__)


def _kind(field: msgspec.structs.FieldInfo) -> str:
    return "a list of names and tables" if field.name == "phases" else words_for(field.type)


def _help(kind: Any) -> str:
    for note in kind.__metadata__:
        if note.description:
            return str(note.description)
    raise OniError(f"a setting without description: {kind}")


def _toml(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, Phase):
        return _toml(value.name)
    return f'"{value}"' if isinstance(value, str) else repr(value)
