"""The same for Django: put it into ``urlpatterns``, behind the session middleware.

``path("oni/token", connection_token)``
"""

from __future__ import annotations

from time import time

import jwt
from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, JsonResponse
from django.views.decorators.http import require_POST


@require_POST
@login_required
def connection_token(request: HttpRequest) -> JsonResponse:
    """Say who the user is."""
    claims = {
        "sub": str(request.user.pk),
        "exp": int(time()) + 600,
        "info": {"name": request.user.get_username()},
    }
    return JsonResponse({"token": jwt.encode(claims, settings.ONI_SECRET, "HS256")})
