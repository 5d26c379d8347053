"""The admin pages of the ledger."""

from __future__ import annotations

from unittest import mock
from urllib.parse import quote

from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test.utils import CaptureQueriesContext

from oni.sources.django import api
from oni.sources.django._home import Home
from oni.sources.django._settings import DjangoSettings
from oni.sources.django.models import Delivery, LedgerDecision, LedgerDelivery
from tests.django_project.blog.models import Post
from tests.sources.django.case import DjangoCase, deliver_events

LIST = "/admin/oni/delivery/"


class AdminTests(DjangoCase):
    """What an operator sees and does."""

    def setUp(self) -> None:
        """Have deliveries: some done, one dead, one uncertain."""
        super().setUp()
        self.fails = True
        api.register_group_handler(self.fine, "^post", name="blog.fine")
        api.register_group_handler(self.broken, "^post", name="blog.broken", max_attempts=1)
        api.register_group_handler(self.broken, "_two$", name="blog.parked", on_crash="park")
        api.register_model_event_source(
            Post, lambda post: [api.event(f"post_{post.title}", post.pk)]
        )
        Post.objects.create(title="one")
        Post.objects.create(title="two")
        deliver_events()
        self.client.force_login(User.objects.create_superuser("ann"))

    def fine(self, event: api.Event) -> None:
        """Do nothing."""

    def broken(self, event: api.Event) -> None:
        """Fail, as long as it shall."""
        if self.fails:
            raise RuntimeError("the mail server\nis away")

    def state(self, handler: str, group: str) -> str:
        """Give a delivery's state."""
        found = LedgerDelivery.objects.get(handler=handler, key__contains=f":{group}")
        return str(found.state)

    def row(self, handler: str, group: str) -> str:
        """Give what the pages call a delivery."""
        return str(Delivery.objects.get(handler=handler, key__contains=f":{group}").pk)

    def act(self, action: str, *rows: str) -> str:
        """Select deliveries, choose an action, and give the page that comes."""
        data = {"action": action, "_selected_action": rows}
        return self.client.post(LIST, data, follow=True).content.decode()

    def test_set_up(self) -> None:
        """It is as these tests want it."""
        self.assertEqual(self.state("blog.fine", "post_one"), "done")
        self.assertEqual(self.state("blog.broken", "post_one"), "dead")
        self.assertEqual(self.state("blog.parked", "post_two"), "uncertain")

    def test_list(self) -> None:
        """Those to be decided come first, with the first line of their error."""
        page = self.client.get(LIST)
        shown = [(each.state, each.handler) for each in page.context["cl"].result_list]
        self.assertEqual(shown[0], ("uncertain", "blog.parked"))
        self.assertEqual([state for state, _ in shown[1:]], ["dead", "dead", "done", "done"])
        self.assertContains(page, "RuntimeError: the mail server")
        self.assertNotContains(page, "is away")

    def test_filters(self) -> None:
        """It can be filtered by state and handler, and searched by key."""
        for query, expected in (
            ("state__exact=dead", ["blog.broken", "blog.broken"]),
            ("handler=blog.parked", ["blog.parked"]),
            ("q=post_two", ["blog.parked", "blog.broken", "blog.fine"]),
        ):
            with self.subTest(query):
                page = self.client.get(f"{LIST}?{query}")
                shown = [each.handler for each in page.context["cl"].result_list]
                self.assertCountEqual(shown, expected)

    def test_show(self) -> None:
        """A delivery's page has its event, its error, and what was decided; nothing to edit."""
        row = self.row("blog.parked", "post_two")
        self.act("count_as_done", row)
        page = self.client.get(f"{LIST}{_quoted(row)}/change/")
        self.assertContains(page, "is away")
        self.assertContains(page, "post_two")
        self.assertContains(page, "&quot;context&quot;")
        self.assertContains(page, "ann: done, was uncertain")
        self.assertNotContains(page, '<input type="text"')
        self.assertNotContains(page, 'type="submit" value="Save')

    def test_an_exact_key(self) -> None:
        """A page is found by the index, whatever characters the key has."""
        api.process_events([api.Event(group="post_odd", key="a/b_c?d:e ä")])
        page = self.client.get(f"{LIST}{_quoted('blog.fine/a/b_c?d:e ä')}/change/")
        self.assertContains(page, "a/b_c?d:e ä")

    def test_retry(self) -> None:
        """What is dead runs again, and the ledger and the admin's log say who let it."""
        row = self.row("blog.broken", "post_one")
        page = self.act("retry", row)
        self.assertIn("1 of the deliveries will run again", page)
        self.assertEqual(self.state("blog.broken", "post_one"), "pending")
        self.assertEqual(self.state("blog.broken", "post_two"), "dead")
        self.fails = False
        deliver_events()
        self.assertEqual(self.state("blog.broken", "post_one"), "done")
        decision = LedgerDecision.objects.get()
        self.assertEqual((decision.who, decision.decision, decision.was), ("ann", "retry", "dead"))
        entry = LogEntry.objects.get()
        self.assertEqual((entry.user.username, entry.object_id), ("ann", row))

    def test_done(self) -> None:
        """What is uncertain counts as done, and never runs."""
        self.act("count_as_done", self.row("blog.parked", "post_two"))
        self.assertEqual(self.state("blog.parked", "post_two"), "done")
        self.assertEqual(deliver_events(), [])

    def test_what_cannot_be(self) -> None:
        """One that is done already is said to be, and keeps no other from being decided."""
        rows = [self.row("blog.fine", "post_one"), self.row("blog.broken", "post_one")]
        page = self.act("count_as_done", *rows)
        self.assertIn("is done, and cannot be", page)
        self.assertIn("1 of the deliveries counted as done", page)
        self.assertEqual(LedgerDecision.objects.count(), 1)

    def test_many_that_cannot_be(self) -> None:
        """Of many the first ones are told, and of the rest how many there are."""
        api.process_events([api.Event(group="post_many", key=f"many {n}") for n in range(8)])
        self.fails = False
        deliver_events()
        rows = [f"blog.fine/many {number}" for number in range(8)]
        page = self.act("count_as_done", *rows)
        self.assertEqual(page.count("is done, and cannot be"), 5)
        self.assertIn("3 more could not be decided about", page)

    def test_nothing_is_saved(self) -> None:
        """A form that somebody sends all the same changes nothing: the page has none."""
        row = self.row("blog.broken", "post_one")
        with CaptureQueriesContext(connection) as queries:
            page = self.client.post(f"{LIST}{_quoted(row)}/change/", {"state": "done"})
        self.assertEqual(page.status_code, 403)
        written = [each["sql"] for each in queries if each["sql"].startswith("UPDATE")]
        self.assertFalse([sql for sql in written if "oni_delivery" in sql])

    def test_markup(self) -> None:
        """Whatever stands in keys, events and errors is shown as text."""
        mark = "<script>alert(1)"

        def fail(event: api.Event) -> None:
            raise RuntimeError(mark)

        api.register_group_handler(fail, "^mark", name="<b>", max_attempts=1)
        api.process_events([api.Event(group=f"mark{mark}", key=mark, context={"a": mark})])
        deliver_events()
        self.client.force_login(User.objects.create_superuser(mark))
        row = f"<b>/{mark}"
        pages = [self.client.get(LIST).content.decode()]
        pages += [self.act("retry", row), self.act("count_as_done", row)]
        for name in ("change", "history"):
            pages.append(self.client.get(f"{LIST}{_quoted(row)}/{name}/").content.decode())
        for page in pages:
            self.assertIn("&lt;script&gt;alert(1)", page)
            self.assertNotIn(mark, page)

    def test_who_may_look(self) -> None:
        """Whoever may only view deliveries is offered no decision, and takes none."""
        bob = User.objects.create_user("bob", is_staff=True)
        bob.user_permissions.add(Permission.objects.get(codename="view_delivery"))
        self.client.force_login(bob)
        self.assertNotContains(self.client.get(LIST), "retry")
        self.act("retry", self.row("blog.broken", "post_one"))
        self.assertEqual(self.state("blog.broken", "post_one"), "dead")
        self.assertEqual(self.client.get(f"{LIST}add/").status_code, 403)

    def test_a_ledger_elsewhere(self) -> None:
        """Where the ledger is in no database of the project's, there is nothing to look at."""
        row = self.row("blog.broken", "post_one")
        elsewhere = DjangoSettings(ledger="redis://127.0.0.1:6379/0")
        with mock.patch.object(Home, "settings", elsewhere):
            pages = [LIST, f"{LIST}{_quoted(row)}/change/", f"{LIST}{_quoted(row)}/history/"]
            self.assertEqual([self.client.get(page).status_code for page in pages], [403] * 3)
            self.act("retry", row)
            self.assertNotContains(self.client.get("/admin/"), "Deliveries")
        self.assertEqual(self.state("blog.broken", "post_one"), "dead")

    def test_the_index_is_used(self) -> None:
        """A page of one delivery does not read the whole table."""
        from oni.sources.django.admin import DeliveryAdmin, admin

        page = DeliveryAdmin(Delivery, admin.site)
        with connection.cursor() as cursor:
            found = page.get_queryset(None).filter(handler="h", key="k")  # type: ignore[arg-type]
            sql, values = found.query.sql_with_params()
            cursor.execute(f"EXPLAIN QUERY PLAN {sql}", values)
            plan = " ".join(str(row[3]) for row in cursor.fetchall())
        self.assertIn("PRIMARY KEY", plan)


def _quoted(row: str) -> str:
    from django.contrib.admin.utils import quote as of_admin

    return quote(of_admin(row))
