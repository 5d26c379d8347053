"""Event sources in a process of its own life: the ledger opened, watched, pruned and closed.

The daemon and `oni sources work` share it. Importing this room does no work.
"""
