"""Workers that are killed and stopped while they work, and a judge of what they leave behind.

A run has a place (:mod:`.places`: a database that a ledger is kept in), a source and workers
(:mod:`.worker`: processes, which write all that can be seen from outside into one history), a
conductor that kills them (:mod:`.conductor`), and a checker that reads the whole history
afterwards (:mod:`.checker`). :mod:`.mutants` are mistakes that the checker must find.

By hand: ``python -m tests.integration.kill_harness --store sqlite --seed 7``.
"""
