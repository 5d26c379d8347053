"""Sets Django up before the tests of this folder are imported."""

from __future__ import annotations

from tests.django_project import set_up

set_up()

from django.test.utils import setup_test_environment  # noqa: E402

setup_test_environment()
