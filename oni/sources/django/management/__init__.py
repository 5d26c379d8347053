"""Where Django looks for the application's commands."""

__all__ = ()
