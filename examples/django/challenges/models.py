"""Challenges and what is given for them."""

from __future__ import annotations

from django.db import models


class Challenge(models.Model):
    """Somebody's challenge."""

    email = models.EmailField()
    is_active = models.BooleanField(default=True)
    start_date = models.DateField()
    end_date = models.DateField()


class Donation(models.Model):
    """What somebody gave."""

    challenge = models.ForeignKey(Challenge, on_delete=models.CASCADE, related_name="donations")


class Sent(models.Model):
    """That a mail was sent about a challenge."""

    challenge = models.ForeignKey(Challenge, on_delete=models.CASCADE)
    group = models.CharField(max_length=100)
