"""Whether a Redis server keeps what it is given, as far as it can be asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["Findings", "look_at"]

_OLDEST = 6
_KEEPS_ALL = "noeviction"

# What CONFIG calls a setting, and what INFO says of it.
_SETTINGS = ("appendonly", "appendfsync", "maxmemory", "maxmemory-policy")


@dataclass
class Findings:
    """What was found.

    Attributes:
        impossible: Why no ledger can be there, a sentence or two each.
        forgetful: Why it may forget keys.
        warnings: What one should know.
    """

    impossible: list[str] = field(default_factory=list)
    forgetful: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def look_at(info: Mapping[str, str] | None, config: Mapping[str, str] | None) -> Findings:
    """Judge a server.

    Args:
        info: What INFO says; None where it is forbidden.
        config: What CONFIG GET says of everything; None where it is forbidden.
    """
    found = Findings()
    told = _told(info, config)
    if info is not None:
        _look_at_server(info, found)
    missing = [name for name in _SETTINGS if name not in told]
    if missing:
        found.warnings.append(
            f"the server does not let this user see {' and '.join(missing)}, so that nobody knows "
            f"whether it keeps what it is given; it must have appendonly yes and maxmemory-policy "
            f"noeviction. Let the user call CONFIG GET: +config|get"
        )
    _look_at_files(told, found)
    _look_at_memory(told, found)
    return found


def _told(info: Mapping[str, str] | None, config: Mapping[str, str] | None) -> dict[str, str]:
    """Give the settings that are known: CONFIG has them all, INFO most of them."""
    told: dict[str, str] = {}
    if info is not None:
        if "aof_enabled" in info:
            told["appendonly"] = "yes" if info["aof_enabled"] == "1" else "no"
        if "maxmemory" in info:
            told["maxmemory"] = info["maxmemory"]
        if "maxmemory_policy" in info:
            told["maxmemory-policy"] = info["maxmemory_policy"]
    for name in _SETTINGS:
        if config is not None and name in config:
            told[name] = config[name]
    return told


def _look_at_server(info: Mapping[str, str], found: Findings) -> None:
    version = info.get("redis_version", "")
    major = version.partition(".")[0]
    if major.isdigit() and int(major) < _OLDEST:
        found.impossible.append(f"Redis {version} is too old; it must be {_OLDEST} or later")
    if info.get("role") == "slave":
        found.impossible.append("the server is a replica, which cannot be written to")
    replicas = info.get("connected_slaves", "0")
    if replicas != "0":
        found.warnings.append(
            "the server has replicas. One that takes its place may not have heard of what was "
            "written last, and it is done again"
        )


def _look_at_files(told: Mapping[str, str], found: Findings) -> None:
    if told.get("appendonly") == "no":
        found.forgetful.append(
            "appendonly is no, so that a server that ends forgets what it has accepted; set "
            "appendonly yes"
        )
        return
    when = told.get("appendfsync")
    if when == "no":
        found.forgetful.append(
            "appendfsync is no, so that a machine that fails forgets half a minute; set "
            "appendfsync always, or everysec"
        )
    elif when == "everysec":
        found.warnings.append(
            "appendfsync is everysec: a machine that fails forgets the last second or two, and "
            "what was done then is done again, or was never heard of; always forgets nothing"
        )


def _look_at_memory(told: Mapping[str, str], found: Findings) -> None:
    policy = told.get("maxmemory-policy", _KEEPS_ALL)
    if policy == _KEEPS_ALL:
        return
    limit = told.get("maxmemory", "0")
    advice = "set maxmemory-policy noeviction"
    if policy.startswith("volatile-"):
        found.warnings.append(
            f"maxmemory-policy is {policy}: the ledger's keys never expire and stay, but what "
            f"handlers write with an expiry may go; {advice}"
        )
    elif limit == "0":
        found.warnings.append(
            f"maxmemory-policy is {policy}: as soon as somebody sets maxmemory, the server may "
            f"forget keys; {advice}"
        )
    else:
        found.forgetful.append(
            f"maxmemory-policy is {policy}, so that the server forgets keys when its memory is "
            f"full; {advice}"
        )
