"""Challenges over HTTP."""

from __future__ import annotations

from datetime import date, timedelta

from django.http import HttpRequest, JsonResponse
from django.views.decorators.csrf import csrf_exempt

from challenges.models import Challenge, Sent


@csrf_exempt
def challenges(request: HttpRequest) -> JsonResponse:
    """With POST, save a challenge that is over, or an old one again; tell what was sent."""
    if request.method == "POST":
        ended = {
            "start_date": date.today() - timedelta(30),
            "end_date": date.today() - timedelta(1),
        }
        Challenge.objects.update_or_create(
            email=request.POST.get("email", "ann@example.com"), defaults=ended
        )
    sent = Sent.objects.order_by("pk").values_list("challenge__email", "group")
    return JsonResponse({"challenges": Challenge.objects.count(), "sent": list(sent)})
