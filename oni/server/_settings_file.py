"""Read the daemon's settings from a file, and check it whole.

A wrong type, a wrong value and an unknown key are each named with their path, all in one
:class:`oni.errors.SettingsError`.
"""

from __future__ import annotations

import math
import os
import re
import tomllib
from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal, cast

import msgspec
from msgspec import Meta
from twisted.internet.endpoints import serverFromString

from oni.channels import backend_for
from oni.errors import BackendUrlError, SettingsError
from oni.server._ledger_settings import ledger_problems
from oni.server._listeners_settings import read_listeners
from oni.server._running_settings import running_problems
from oni.server._settings import (
    ACT_PHASES,
    SECTIONS,
    ChannelRules,
    ChannelsSettings,
    DispatcherSettings,
    ServerSettings,
    Settings,
)
from oni.server._sources_settings import sources_problems
from oni.server._tables import article, convert_table, suggest
from oni.server._watchers_settings import read_watchers, watched_models
from oni.server.auth._keys import key_problems, with_key
from oni.server.auth._reading import SECRETS, read_auth
from oni.server.limits import is_proxy
from oni.values import Phase

__all__ = ["load_settings", "parse_settings", "settings_from"]

_PORTS = ("tcp", "tcp6", "ssl")
_NAMESPACE = re.compile(r"[A-Za-z0-9_.-]+")
_ORIGIN = re.compile(r"https?://(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:[0-9]{1,5})?")
_HOST = re.compile(r"\[[0-9a-f:.]+\]|[a-z0-9._-]+")
_CONFIGURE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")
_BUILT_IN = {phase.name: phase for phase in ACT_PHASES}


def load_settings(path: str | os.PathLike[str]) -> Settings:
    """Read and check a settings file.

    Raises:
        SettingsError: It cannot be read, is not TOML, or something in it is wrong.
    """
    try:
        with open(path, "rb") as file:
            text = file.read().decode("utf-8")
    except OSError as error:
        raise SettingsError([f"{os.fspath(path)}: {error.strerror}"]) from error
    except UnicodeDecodeError as error:
        raise SettingsError([f"{os.fspath(path)}: not UTF-8: {error}"]) from error
    return parse_settings(text, os.path.dirname(os.path.abspath(path)))


def parse_settings(text: str, folder: str | None = None) -> Settings:
    """Check the text of a settings file that lies in this folder.

    Raises:
        SettingsError: It is not TOML, or something in it is wrong.
    """
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError([f"not TOML: {error}"]) from error
    return settings_from(table, folder)


def settings_from(table: Mapping[str, Any], folder: str | None = None) -> Settings:
    """Check settings that are already tables.

    Raises:
        SettingsError: Something is wrong; it names all of it.
    """
    problems: list[str] = []
    sections: dict[str, Any] = {}
    for name, value in table.items():
        if name == "listeners":
            sections[name] = read_listeners(value, problems)
        elif name == "watchers":
            sections[name] = read_watchers(value, problems)
        elif name not in SECTIONS:
            problems.append(f"{name}: unknown section{_meant(name)}; known: {_known()}")
        elif name == "channels":
            sections[name] = _channels(value, problems)
        elif name == "dispatcher":
            sections[name] = _dispatcher(value, problems)
        elif name == "auth":
            sections[name] = read_auth(value, problems)
        else:
            kind = SECTIONS[name]
            found = convert_table(kind, value, name, problems, secrets=SECRETS)
            sections[name] = with_key(found, name, folder, problems)
    settings = Settings(folder=folder, **{k: v for k, v in sections.items() if v is not None})
    problems += _cross_checks(settings, {problem.partition(":")[0] for problem in problems})
    if problems:
        raise SettingsError(problems)
    return settings


def _known() -> str:
    return ", ".join(f"[{name}]" for name in SECTIONS)


def _meant(name: str) -> str:
    """Say which section was meant, or in which section a stray key belongs."""
    for section, struct in SECTIONS.items():
        if name in struct.__struct_fields__:
            return f" (did you mean {name!r} in [{section}]?)"
    return suggest(name, SECTIONS)


def _channels(table: object, problems: list[str]) -> ChannelsSettings | None:
    """Split defaults from namespaces; what a namespace does not say comes from the defaults."""
    if not isinstance(table, Mapping):
        problems.append(f"channels: expected a table, got {article(table)}")
        return None
    known = ChannelRules.__struct_fields__
    tables = {k: v for k, v in table.items() if isinstance(v, Mapping) and k not in known}
    plain = {k: v for k, v in table.items() if k not in tables}
    defaults = convert_table(ChannelRules, plain, "channels", problems) or ChannelRules()
    said = msgspec.structs.asdict(defaults)
    namespaces = {}
    for name, own in tables.items():
        if not _NAMESPACE.fullmatch(name):
            problems.append(
                f"channels.{name}: a namespace's name has letters, digits, '_', '-' and '.' only"
            )
        rules = convert_table(ChannelRules, own, f"channels.{name}", problems) or ChannelRules()
        mine = {key: getattr(rules, key) for key in own if key in known}
        namespaces[name] = ChannelRules(**{**said, **mine})
    return ChannelsSettings(defaults=defaults, namespaces=MappingProxyType(namespaces))


# --- Phases ------------------------------------------------------------------------------------


class _PhaseTable(msgspec.Struct, frozen=True, kw_only=True):
    """A phase as a settings file writes it."""

    name: Annotated[str, Meta(min_length=1)] | None = None
    on_error: Literal["continue", "abort"] = "continue"
    concurrent: bool = True
    timeout: Annotated[float, Meta(gt=0)] | None = None
    always: bool = False
    holds_turn: bool = True


def _dispatcher(table: object, problems: list[str]) -> DispatcherSettings | None:
    if not isinstance(table, Mapping) or "phases" not in table:
        return convert_table(DispatcherSettings, table, "dispatcher", problems)
    rest = {k: v for k, v in table.items() if k != "phases"}
    settings = convert_table(DispatcherSettings, rest, "dispatcher", problems)
    phases = _phases(table["phases"], problems)
    return msgspec.structs.replace(settings, phases=phases) if settings and phases else settings


def _phases(value: object, problems: list[str]) -> tuple[Phase, ...]:
    path = "dispatcher.phases"
    if not isinstance(value, list):
        problems.append(f"{path}: expected a list of names or tables, got {article(value)}")
        return ()
    phases = [_phase(entry, f"{path}[{n}]", problems) for n, entry in enumerate(value)]
    made = tuple(phase for phase in phases if phase)
    names = [phase.name for phase in made]
    for name in sorted({name for name in names if names.count(name) > 1}):
        problems.append(f"{path}: {name!r} is there twice")
    kept = [name for name in names if name in _BUILT_IN]
    if len(made) == len(phases) and list(dict.fromkeys(kept)) != list(_BUILT_IN):
        problems.append(f"{path}: {_in_order()} must be there, in this order, got {names}")
    return made


def _in_order() -> str:
    return ", ".join(map(repr, _BUILT_IN))


def _phase(entry: object, path: str, problems: list[str]) -> Phase | None:
    if isinstance(entry, str) and entry:
        return _BUILT_IN.get(entry) or Phase(entry)
    if not isinstance(entry, Mapping):
        problems.append(f"{path}: expected a name or a table, got {article(entry)}")
        return None
    table = convert_table(_PhaseTable, entry, path, problems)
    if table is None or table.name is None:
        if "name" not in entry:
            problems.append(f"{path}.name: expected a string that is not empty, got nothing")
        return None
    if table.timeout is not None and not math.isfinite(table.timeout):
        problems.append(f"{path}.timeout: expected a finite number, got {table.timeout}")
        return None
    if table.name not in _BUILT_IN:
        return Phase(**msgspec.structs.asdict(table))
    for key in sorted(set(entry) & set(_PhaseTable.__struct_fields__) - {"name", "timeout"}):
        problems.append(f"{path}.{key}: cannot be set for {table.name!r}; only its timeout can")
    fixed = _BUILT_IN[table.name]
    return Phase(
        fixed.name,
        fixed.on_error,
        fixed.concurrent,
        table.timeout,
        fixed.always,
        fixed.holds_turn,
    )


# --- What one key alone does not show ------------------------------------------------------------


def _cross_checks(settings: Settings, wrong: Collection[str]) -> list[str]:
    """Say what does not fit together; paths that are wrong already hold defaults here."""
    server = settings.server
    problems = [problem for text in server.listen if (problem := _listen_problem(text))]
    problems += [
        f"server.allowed_origins: expected origins like 'https://example.org', got {origin!r}"
        for origin in server.allowed_origins
        if not _ORIGIN.fullmatch(origin)
    ]
    problems += [
        f"server.allowed_hosts: expected host names in lower case and without port, got {host!r}"
        for host in server.allowed_hosts
        if not _HOST.fullmatch(host)
    ]
    problems += [
        f"server.trusted_proxies: expected addresses, networks or 'unix', got {proxy!r}"
        for proxy in server.trusted_proxies
        if not is_proxy(proxy)
    ]
    for name in ServerSettings.__struct_fields__:
        value = getattr(server, name)
        if isinstance(value, float) and not math.isfinite(value):
            problems.append(f"server.{name}: expected a finite number, got {value}")
    times_known = not {"server.pong_timeout", "server.ping_interval"} & set(wrong)
    if times_known and server.pong_timeout >= server.ping_interval:
        problems.append(
            f"server.pong_timeout: expected less than server.ping_interval "
            f"({server.ping_interval}), got {server.pong_timeout:g}"
        )
    key = settings.api.key
    if key is not None and not (key.isascii() and key.isprintable() and " " not in key):
        problems.append(
            "api.key: expected printable ASCII characters without spaces, got something else"
        )
    problems += settings.admin.problems(settings.listens_on_loopback, server.allowed_hosts)
    problems += running_problems(settings.running, settings.metrics)
    problems += ledger_problems(settings.ledger)
    problems += sources_problems(settings.sources, settings.ledger)
    if settings.ledger.url is None and settings.sources.django_settings is None:
        problems += [
            f"ledger.url: expected an address, as watchers.{name}.models needs a ledger"
            for name in watched_models(settings.watchers)
        ]
    problems += key_problems(settings.auth, settings.folder, wrong)
    problems += _channels_problems(settings.channels)
    try:
        backend_for(settings.backend.url)
    except BackendUrlError as error:
        problems.append(f"backend.url: {error}")
    problems += _dispatcher_problems(settings.dispatcher)
    configure = settings.app.configure
    if configure is not None and not _CONFIGURE.fullmatch(configure):
        problems.append(f"app.configure: expected 'module:function', got {article(configure)}")
    return problems


def _channels_problems(settings: ChannelsSettings) -> list[str]:
    tables = settings.tables()
    found = [(path, problem) for path, rules in tables for problem in _problems_of(rules)]
    # What a namespace only has from [channels] is said once.
    common = {problem for path, problem in found if path == "channels"}
    return [
        f"{path}.{problem}"
        for path, problem in found
        if path == "channels" or problem not in common
    ]


def _problems_of(rules: ChannelRules) -> list[str]:
    """Say what does not fit together in one table, beginning with the key."""
    problems = [
        f"{name}: expected a finite number, got {getattr(rules, name)}"
        for name in ("history_ttl", "max_lag")
        if not math.isfinite(getattr(rules, name))
    ]
    if bool(rules.history_size) is not bool(rules.history_ttl):
        there, missing = "history_size", "history_ttl"
        if rules.history_ttl:
            there, missing = missing, there
        problems.append(f"{missing}: expected a number above 0, as {there} is set")
    if rules.latest_by and rules.behind != "latest":
        problems.append(f"latest_by: only behind = 'latest' uses it, not {rules.behind!r}")
    return problems


def _listen_problem(description: str) -> str | None:
    """Say why an endpoint description is none; nothing is opened for that."""
    path = "server.listen: expected an endpoint description like 'tcp:8000:interface=127.0.0.1'"
    try:
        # Building an endpoint only stores its reactor.
        serverFromString(cast(Any, None), description)
    except Exception as error:  # noqa: BLE001 - each kind of endpoint has its own errors
        return f"{path}, got {article(description)} ({type(error).__name__}: {error})"
    kind, _, rest = description.partition(":")
    port = rest.partition(":")[0].removeprefix("port=")
    if kind in _PORTS and port.isdigit() and int(port) > 65535:
        return f"{path}, got {article(description)} (a port is at most 65535)"
    return None


def _dispatcher_problems(settings: DispatcherSettings) -> list[str]:
    path = "dispatcher.allowed_match_spec_keywords"
    problems = [
        f"{path}: expected identifiers that are not taken, got {keyword!r}"
        for keyword in settings.allowed_match_spec_keywords
        if not keyword.isidentifier() or keyword in ("use_weakref", "times", "timeout")
    ]
    problems += [
        f"dispatcher.order_by: unknown keyword {keyword!r}{suggest(keyword, settings.keywords)}; "
        f"known: {', '.join(settings.keywords)}"
        for keyword in settings.order_by
        if keyword not in settings.keywords
    ]
    return problems
