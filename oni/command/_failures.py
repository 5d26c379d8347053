"""How a command ends when it does not succeed: one line for people, one number for programs."""

from __future__ import annotations

import click

__all__ = ["FAILED", "INTERRUPTED", "UNREACHABLE", "WRONG_USAGE", "CommandError", "NoAnswerError"]

FAILED = 1
"""The daemon refused, or what was looked at is not right."""

WRONG_USAGE = 2
"""The command line is not right."""

UNREACHABLE = 3
"""No daemon answers, or what answers is none; or a ledger's database does not answer."""

INTERRUPTED = 130
"""Ctrl-C, where that is not the usual end."""


class CommandError(click.ClickException):
    """A command cannot do what it was asked for; its text is one line."""

    exit_code = FAILED


class NoAnswerError(CommandError):
    """No daemon answers, or what answers is none."""

    exit_code = UNREACHABLE
