"""The reference page of the commands says what they say of themselves.

``python -m tests.docs.test_commands_reference`` writes the page's text anew.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

import click

from oni.command._cli import cli

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = DOCS / "reference" / "commands.rst"
BEGIN = ".. The text below is written by tests/docs/test_commands_reference.py.\n"
_WIDTH = 88


def written() -> str:
    """Write each command's help."""
    parts = [BEGIN]
    for name, command in _all_commands():
        label = name.replace(" ", "-")
        parts += [f"\n.. _command-{label}:\n", f"\n``oni {name}``\n{'-' * (len(name) + 8)}\n"]
        help_text = textwrap.indent(_help(name, command), "   ")
        parts.append(f"\n.. code-block:: text\n\n{help_text}\n")
    return "".join(parts)


def _all_commands() -> Iterator[tuple[str, click.Command]]:
    """Give every command by its name, those of a group after the group."""
    for name, command in cli.commands.items():
        yield name, command
        if isinstance(command, click.Group):
            yield from ((f"{name} {part}", each) for part, each in command.commands.items())


def _help(name: str, command: click.Command) -> str:
    context = click.Context(cli, info_name="oni", terminal_width=_WIDTH, **cli.context_settings)
    for word in name.split()[:-1]:
        context = click.Context(cli.commands[word], context, info_name=word)
    return command.get_help(click.Context(command, context, info_name=name.split()[-1]))


def test_reference_page() -> None:
    """The page has every command's help as it is, and nothing else."""
    found = PAGE.read_text(encoding="utf-8")
    assert found[found.index(BEGIN) :] == written()


def test_options_on_pages() -> None:
    """Every command and option that a page of the documentation shows is one."""
    shown = 0
    commands = dict(_all_commands())
    for page in [*DOCS.rglob("*.rst"), DOCS.parent / "README.md"]:
        if "_build" in page.parts or page == PAGE:
            continue
        for line in re.findall(r"^ +(?:\$ )?oni (.*)$", page.read_text(encoding="utf-8"), re.M):
            words = line.partition(" | ")[0].partition(" # ")[0].split()
            name = words[0].strip("`")
            if name.startswith("-"):
                continue
            assert name in commands, (page.name, line)
            if isinstance(commands[name], click.Group):
                name = f"{name} {words[1]}"
                assert name in commands, (page.name, line)
            known = {
                option
                for parameter in commands[name].params
                for option in (*parameter.opts, "--help", "-h")
            }
            used = {word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)}
            assert used <= known, (page.name, line)
            shown += 1
    assert shown >= 5


if __name__ == "__main__":
    head = PAGE.read_text(encoding="utf-8").partition(BEGIN)[0]
    PAGE.write_text(head + written(), encoding="utf-8")
