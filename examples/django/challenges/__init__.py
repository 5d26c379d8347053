"""Challenges, and mails about them: one for each thing that happens to one, ever."""
