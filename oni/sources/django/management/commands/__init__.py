"""The application's commands, each in the module of its name."""

__all__ = ()
