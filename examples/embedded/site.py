"""A site of one's own with an Oni in it, run by ``twistd -ny site.py``."""

import os
from pathlib import Path

from twisted.application import service, strports
from twisted.web.resource import Resource
from twisted.web.server import Site
from twisted.web.static import Data

from oni.server import EmbeddedOni, load_settings

HERE = Path(__file__).parent
LISTEN = os.environ.get("SITE_LISTEN", "tcp:8080:interface=127.0.0.1")

embedded = EmbeddedOni(load_settings(HERE / "oni.toml"))


class Basket(Resource):
    """A page of the site: it tells everybody who hears the channel ``shop``."""

    isLeaf = True

    def render_POST(self, request):
        """Take an article."""
        article = request.content.read().decode()
        channel = embedded.oni.channels.get("shop")
        channel.publish("article_added", {"article": article}).addErrback(print)
        return b"thank you\n"


root = Resource()
root.putChild(b"", Data(b"The shop\n", "text/plain"))
root.putChild(b"basket", Basket())
root.putChild(b"events", embedded.resource)  # so /events/connection/websocket, /events/api/publish

application = service.Application("shop")
embedded.setServiceParent(application)
strports.service(LISTEN, Site(root)).setServiceParent(application)
