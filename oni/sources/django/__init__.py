"""Django models as a source of events, and the ledger in Django's databases: an application.

With ``"oni.sources.django"`` among ``INSTALLED_APPS`` and after ``manage.py migrate``,
:mod:`oni.sources.django.api` has what a project calls. Here is what its models are made with,
before there are any.
"""

from oni.sources.django._atomic import atomic_events
from oni.sources.django._instances import Instances
from oni.sources.django._querysets import OniManager, OniQuerySet
from oni.sources.django._references import DjangoReferences

__all__ = ["DjangoReferences", "Instances", "OniManager", "OniQuerySet", "atomic_events"]
