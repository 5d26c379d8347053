"""What it is about."""

from __future__ import annotations

from django.db import models


class User(models.Model):
    """Somebody who gets mails."""

    email = models.EmailField()


class Challenge(models.Model):
    """Somebody's challenge, to which others give."""

    user = models.ForeignKey(User, on_delete=models.CASCADE)
    is_active = models.BooleanField(default=True)
    start_date = models.DateField()
    end_date = models.DateField()


class Donation(models.Model):
    """What somebody gave."""

    challenge = models.ForeignKey(Challenge, on_delete=models.CASCADE, related_name="donations")
