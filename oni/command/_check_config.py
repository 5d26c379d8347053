"""``oni check-config``: what is wrong with a settings file, and what holds with it."""

from __future__ import annotations

import click
import crochet

from oni.command._failures import FAILED
from oni.command._options import settings_argument
from oni.command._show import one_line
from oni.command._toml import toml_text
from oni.errors import SettingsError
from oni.server import Settings, check_application, load_settings

__all__ = ["check_config"]


@click.command(name="check-config", short_help="Check a settings file.")
@settings_argument
@click.option("--show", is_flag=True, help="Print every setting that holds. Secrets are hidden.")
@click.option(
    "--only-file",
    is_flag=True,
    help="Do not look at what the file names: no module is imported, no ZCML loaded.",
)
def check_config(file: str, show: bool, only_file: bool) -> int:
    """Check a settings FILE whole.

    Every problem is one line on standard error, with the setting's path; then the exit code is 1.
    What [app] names is imported but not called, the file that [zca] names is loaded into a
    registry that is thrown away: as `twistd oni --check` does.
    """
    try:
        settings = load_settings(file)
        if not only_file:
            _look(settings)
    except SettingsError as error:
        for problem in error.problems:
            click.echo(one_line(f"{file}: {problem.removeprefix(f'{file}: ')}"), err=True)
        return FAILED
    for warning in settings.warnings():
        click.echo(one_line(f"{file}: warning: {warning}"), err=True)
    if show:
        click.echo(toml_text(settings), nl=False)
    else:
        click.echo(f"{file}: the settings are right")
    return 0


def _look(settings: Settings) -> None:
    """Look at what the settings name.

    Raises:
        SettingsError: Something of it is wrong.
    """
    if settings.app.configure is not None or settings.zca.zcml is not None:
        crochet.no_setup()  # as in the daemon: a module that asks crochet for a thread is told so
    try:
        check_application(settings)
    except SettingsError:
        raise
    except Exception as error:
        # The application's module may raise anything.
        said = f"{type(error).__name__}: {error}".splitlines()[0]
        problem = f"app.configure: {settings.app.configure!r} cannot be imported: {said}"
        raise SettingsError([problem]) from error
