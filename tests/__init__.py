"""Oni's tests. This file makes them a package, which no other `tests` on the path can hide."""
