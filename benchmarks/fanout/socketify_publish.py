"""socketify: uWebSockets in C++ under Python, with its own publish and subscribe."""

import sys

from loop_probe import probe_asyncio
from socketify import App, AppListenOptions, CompressOptions, OpCode

app = App()
app.ws(
    "/*",
    {
        "compression": CompressOptions.DISABLED,
        "max_backpressure": 16 * 1024 * 1024,
        "open": lambda connection: connection.subscribe("everyone"),
        "message": lambda connection, message, opcode: app.publish(
            "everyone", message, OpCode.TEXT
        ),
    },
)
app.listen(AppListenOptions(port=int(sys.argv[1]), host="127.0.0.1"), lambda config: None)
probe_asyncio(app.loop.loop)
app.run()
