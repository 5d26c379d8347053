"""The command ``twistd oni``: its options, and the service that it makes."""

from __future__ import annotations

import platform
import sys
import textwrap
from collections.abc import Mapping
from typing import Any, ClassVar

import crochet
from twisted import __version__ as twisted_version
from twisted.application.service import IService
from twisted.logger import Logger
from twisted.python import usage

from oni import __version__
from oni.errors import SettingsError
from oni.server._application import Application, find_application
from oni.server._running_settings import LogSettings
from oni.server._service import Daemon
from oni.server._settings import SettingInfo, Settings, describe
from oni.server._settings_file import load_settings
from oni.server._whole_check import check_application
from oni.server.running._logs import begin_log, end_log
from oni.server.running._monotonic import run_on_monotonic_time

__all__ = ["Options", "makeService"]

_log = Logger()

_WIDTH = 78


class Options(usage.Options):
    """The command line of ``twistd oni``.

    Attributes:
        settings: The settings, once the command line is parsed.
    """

    synopsis = "[--config FILE] [--check]"
    longdesc = (
        "Serves channels to websocket clients, an HTTP API and a page, all on one port. Without "
        "a settings file it listens on loopback and nobody may connect; "
        "`python -m oni.server.quickstart oni.toml` writes a file to begin with."
    )
    optParameters: ClassVar = [
        ["config", "c", None, "The settings file, TOML."],
    ]
    optFlags: ClassVar = [
        [
            "check",
            None,
            "Only check the settings, import and load what they name; exit with 0 or 1.",
        ],
    ]
    compData = usage.Completions(optActions={"config": usage.CompleteFiles("*.toml")})

    def __init__(self) -> None:
        super().__init__()
        self.settings = Settings()

    def opt_version(self) -> None:
        """Say which version this is, and exit."""
        print(f"Oni {__version__} (Twisted {twisted_version}, Python {platform.python_version()})")
        raise SystemExit(0)

    def opt_help(self) -> None:
        """Say what can be given here and set in the file, and exit."""
        print(self)
        print(_settings_help())
        raise SystemExit(0)

    def postOptions(self) -> None:
        """Read the settings file.

        Raises:
            UsageError: The settings are wrong; it names all problems.
            SystemExit: This was only a check.
        """
        try:
            if self["config"] is not None:
                self.settings = load_settings(self["config"])
        except SettingsError as error:
            raise usage.UsageError(f"{self['config']}: {error}") from error
        if self["check"]:
            crochet.no_setup()  # nobody but twistd runs the reactor
            _check_application(self.settings)
            for warning in self.settings.warnings():
                print(f"warning: {warning}", file=sys.stderr)
            print(f"{self['config'] or 'the defaults'}: the settings are right")
            raise SystemExit(0)


def makeService(options: Options) -> IService:
    """Make the daemon's service. It does not listen before it is started.

    The process's channels are made first: a module of the application may ask for some when it
    is imported.

    Raises:
        SystemExit: The settings name an application that is not there, or a listener's are wrong.
    """
    crochet.no_setup()  # nobody but twistd runs the reactor
    from twisted.internet import reactor

    from oni.server import Oni

    settings = options.settings
    if options.parent is not None:  # the process is ours
        run_on_monotonic_time(reactor)
        _begin_log(options.parent, settings)
        reactor.addSystemEventTrigger("after", "shutdown", end_log)
    try:
        oni = Oni(settings, reactor)
    except SettingsError as error:
        raise SystemExit(f"twistd oni: {error}") from error
    application = _application(settings)
    foreground = options.parent is not None and bool(options.parent["nodaemon"])
    return Daemon.build(settings, application, reactor, foreground, oni)


def _begin_log(twistd: Mapping[str, Any], settings: Settings) -> None:
    """Write the log as the settings say, where twistd is not told of another place for it."""
    elsewhere = twistd["logfile"] not in (None, "", "-") or twistd["logger"] or twistd["syslog"]
    if twistd["nodaemon"] and not elsewhere:
        begin_log(settings.log, settings.secrets())
    elif settings.log != LogSettings():
        _log.warn("twistd writes the log itself, and as it does: [log] is of no use here")


def _application(settings: Settings) -> Application:
    """Find the application, or end with what is wrong."""
    try:
        return find_application(settings)
    except SettingsError as error:
        raise SystemExit(f"twistd oni: {error}") from error


def _check_application(settings: Settings) -> None:
    """Look whether all that the settings name is there, or end with what is wrong."""
    try:
        check_application(settings)
    except SettingsError as error:
        raise SystemExit(f"twistd oni: {error}") from error


def _settings_help() -> str:
    """List every setting, section by section."""
    lines = ["Settings:"]
    section = ""
    for info in describe():
        heading = info.path.rpartition(".")[0]
        if heading != section:
            section = heading
            lines += ["", f"  [{section}]"]
        lines += _lines_of(info)
    lines += ["", "  [channels.NAMESPACE] has the keys of [channels], for NAMESPACE:name."]
    lines += ["  [listeners.NAME] has the listener's own keys, too."]
    lines += ["  [watchers.NAME] has the watcher's own keys, too."]
    return "\n".join(lines)


def _lines_of(info: SettingInfo) -> list[str]:
    default = f" = {info.default}" if info.default else ""
    about = f"{info.help} ({info.kind})"
    return [
        f"  {info.path}{default}",
        *textwrap.wrap(about, _WIDTH, initial_indent=" " * 6, subsequent_indent=" " * 6),
    ]
