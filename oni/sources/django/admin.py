"""The ledger in Django's admin pages: what is there, and an operator's decisions."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, Literal

from django.contrib import admin, messages
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import PermissionDenied
from django.db import connections, transaction
from django.db.models import Case, IntegerField, QuerySet, Value, When
from django.http import HttpRequest
from django.utils.formats import date_format
from django.utils.html import format_html, format_html_join
from django.utils.timezone import template_localtime

from oni.errors import DeliveryStateError, StaleClaimError, UnknownDeliveryError
from oni.ledger.django import DjangoStore
from oni.sources.django._hand_over import wake
from oni.sources.django._home import home
from oni.sources.django.models import Delivery, LedgerDecision, LedgerEvent

__all__ = ["DeliveryAdmin"]

_MOST_TOLD = 5  # of those that cannot be decided about
_TIME = "Y-m-d H:i:s"
# Those that an operator has to do with come first.
_ORDER = ("uncertain", "dead", "running", "pending", "done")


@admin.register(Delivery)
class DeliveryAdmin(admin.ModelAdmin):
    """Deliveries by state and handler; what became of each; and those that are to be decided.

    Nothing can be added, changed or deleted by hand. Who may change deliveries may decide that
    they run again or count as done, which the ledger keeps with the name of who decided.
    """

    list_display = ("handler", "key", "state", "attempts", "changed", "error")
    list_filter = ("state", "handler")
    search_fields = ("key",)
    search_help_text = "by key"
    list_per_page = 50
    show_full_result_count = False
    actions = ("retry", "count_as_done")
    fieldsets = (
        (None, {"fields": ("handler", "key", "state", "last_error")}),
        ("Attempts", {"fields": ("attempts", "max_attempts", "crashes", "on_crash", "changed")}),
        ("Event", {"fields": ("group", "admitted", "content")}),
        ("Decisions", {"fields": ("decisions",)}),
    )

    # --- What is shown

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        """Give deliveries of the ledger's database, those to be decided first."""
        place = Case(
            *(When(state=state, then=Value(place)) for place, state in enumerate(_ORDER)),
            output_field=IntegerField(),
        )
        return Delivery.objects.using(_alias()).order_by(place, "-changed_at", "row")

    def get_object(self, request: HttpRequest, object_id: str, from_field: Any = None) -> Any:
        """Find a delivery by its handler and key, for which there is an index."""
        handler, _, key = object_id.partition("/")
        return self.get_queryset(request).filter(handler=handler, key=key).first()

    @admin.display(description="since", ordering="changed_at")
    def changed(self, delivery: Delivery) -> str:
        """Give when it came into its state."""
        return _time(delivery.changed_at)

    @admin.display(description="last error")
    def error(self, delivery: Delivery) -> str:
        """Give the beginning of its last error."""
        first = delivery.last_error.partition("\n")[0]
        return first if len(first) <= 80 else f"{first[:77]}..."

    @admin.display
    def group(self, delivery: Delivery) -> str:
        """Give its event's group."""
        event = _event(delivery)
        return str(event.group) if event else "-"

    @admin.display
    def admitted(self, delivery: Delivery) -> str:
        """Give when its event was admitted."""
        event = _event(delivery)
        return _time(event.admitted_at) if event else "-"

    @admin.display
    def content(self, delivery: Delivery) -> Any:
        """Give what is kept of its event."""
        event = _event(delivery)
        text = json.dumps(event.content, indent=2, ensure_ascii=False) if event else "-"
        return format_html("<pre>{}</pre>", text)

    @admin.display
    def decisions(self, delivery: Delivery) -> Any:
        """Give what was decided about it, and by whom."""
        made = LedgerDecision.objects.using(_alias()).filter(
            key=delivery.key, handler=delivery.handler
        )
        lines = [(_time(each.decided_at), str(each)) for each in made.order_by("id")]
        return format_html_join("", "<div>{} {}</div>", lines) or "-"

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> Any:
        """Show a delivery. There is nothing to save.

        Raises:
            PermissionDenied: Something is to be saved all the same: Django would write back what
                it has read, past the ledger's statements.
        """
        if request.method == "POST":
            raise PermissionDenied
        nothing = {"show_save": False, "show_save_and_continue": False, **(extra_context or {})}
        return super().change_view(request, object_id, form_url, nothing)

    # --- What may be done

    def has_module_permission(self, request: HttpRequest) -> bool:
        """Say no where the ledger is in no database of the project's."""
        return not home.settings.is_own_ledger and bool(super().has_module_permission(request))

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Say no where the ledger is in no database of the project's."""
        return not home.settings.is_own_ledger and bool(super().has_view_permission(request, obj))

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Say no where the ledger is in no database of the project's."""
        return not home.settings.is_own_ledger and bool(
            super().has_change_permission(request, obj)
        )

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Say no: sources add deliveries."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Say no: keys are forgotten by pruning, all of their deliveries together."""
        return False

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        """Give all of them."""
        return [name for _, options in self.fieldsets for name in options["fields"]]

    @admin.action(description="Let the selected deliveries run again", permissions=["change"])
    def retry(self, request: HttpRequest, queryset: QuerySet) -> None:
        """Let deliveries run again."""
        self._decide(request, queryset, "retry", "will run again")

    @admin.action(
        description="Count the selected deliveries as done, without running them",
        permissions=["change"],
    )
    def count_as_done(self, request: HttpRequest, queryset: QuerySet) -> None:
        """Let deliveries count as completed."""
        self._decide(request, queryset, "done", "counted as done")

    def _decide(
        self,
        request: HttpRequest,
        queryset: QuerySet,
        decision: Literal["done", "retry"],
        what: str,
    ) -> None:
        """Decide each for itself, so that one that cannot be keeps no other from it."""
        store = DjangoStore(_alias(), namespace=home.settings.namespace)
        decided = 0
        refused: list[str] = []
        for delivery in queryset:
            try:
                with transaction.atomic(using=_alias()):
                    ledger = store.join(connections[_alias()])
                    ledger.resolve(
                        delivery.handler, delivery.key, decision, request.user.get_username()
                    )
                    self._log(request, delivery, f"{decision}, was {delivery.state}")
            except (DeliveryStateError, StaleClaimError, UnknownDeliveryError) as error:
                refused.append(str(error))
            else:
                decided += 1
        for text in refused[:_MOST_TOLD]:
            self.message_user(request, text, messages.WARNING)
        if len(refused) > _MOST_TOLD:  # there may be thousands, and each is kept in a cookie
            more = f"{len(refused) - _MOST_TOLD} more could not be decided about."
            self.message_user(request, more, messages.WARNING)
        if decided:
            self.message_user(request, f"{decided} of the deliveries {what}.", messages.SUCCESS)
            transaction.on_commit(wake, using=_alias(), robust=True)

    def _log(self, request: HttpRequest, delivery: Delivery, message: str) -> None:
        """Let the admin's own log have it, too."""
        LogEntry.objects.create(
            user_id=request.user.pk,
            content_type_id=ContentType.objects.get_for_model(Delivery).pk,
            object_id=delivery.pk,
            object_repr=str(delivery)[:200],
            action_flag=CHANGE,
            change_message=message,
        )


def _alias() -> str:
    """Give the ledger's database; where it is none of the project's, one that nobody may see."""
    settings = home.settings
    return "default" if settings.is_own_ledger else settings.ledger


def _event(delivery: Delivery) -> LedgerEvent | None:
    found: LedgerEvent | None = (
        LedgerEvent.objects.using(_alias()).filter(key=delivery.key).first()
    )
    return found


def _time(seconds: float) -> str:
    return str(date_format(template_localtime(datetime.fromtimestamp(seconds, UTC)), _TIME))
