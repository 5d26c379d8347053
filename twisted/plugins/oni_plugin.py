"""Tell ``twistd`` of its command ``oni``."""

from twisted.application.service import ServiceMaker

oni = ServiceMaker(
    "Oni",
    "oni.server.tap",
    "An event dispatcher's daemon: websocket channels, an HTTP API and a page.",
    "oni",
)
