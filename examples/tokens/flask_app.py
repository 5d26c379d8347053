"""A web application that knows its users, and makes tokens for them.

``python flask_app.py`` serves it at http://127.0.0.1:5000. The daemon runs beside it: oni.toml.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from time import time

import jwt
from flask import Flask, abort, jsonify, request, session
from flask.typing import ResponseReturnValue

SECRET = Path(os.environ.get("ONI_SECRET_FILE", Path(__file__).with_name("secret")))
SECONDS = 600  # after so long the client asks for another token, and a permission may be gone
REPORTS = {"7": {"bob"}}  # which users may read which report

app = Flask(__name__)
app.secret_key = secrets.token_bytes(32)


def make_token(**claims: object) -> str:
    """Sign what the daemon shall believe."""
    claims["exp"] = int(time()) + SECONDS
    return jwt.encode(claims, SECRET.read_text().strip(), "HS256")


@app.post("/login")
def login() -> ResponseReturnValue:
    """Believe everybody. A real application asks for a password here."""
    session["user"] = request.form["user"]
    return "", 204


@app.post("/oni/token")
def connection_token() -> ResponseReturnValue:
    """Say who the user is: the client asks when it connects, and when the token has expired."""
    user = session.get("user") or abort(403)
    info = {"name": user.capitalize()}  # what others see of the connection
    return jsonify(token=make_token(sub=user, info=info, channels=["news:all"]))


@app.post("/oni/subscription_token")
def subscription_token() -> ResponseReturnValue:
    """Let the user subscribe to one channel, if that is so."""
    user = session.get("user") or abort(403)
    channel = request.get_json()["channel"]
    namespace, _, number = channel.partition(":")
    if namespace != "report" or user not in REPORTS.get(number, ()):
        abort(403)
    return jsonify(token=make_token(sub=user, channel=channel))


if __name__ == "__main__":
    app.run(port=5000)
