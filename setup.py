"""Build the distribution: version, dependencies and packages. Static facts: pyproject.toml."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).resolve().parent

CORE = [
    "twisted>=26.10",
    "autobahn>=26.7.1",
    "zope.interface>=8",
    "zope.component>=7",
    "crochet>=2.1.1",
    "msgspec>=0.20",
]

# What a user may add. Each name is also the one that a MissingExtraError tells the user.
OPTIONAL = {
    "server": [
        "PyJWT[crypto]>=2.15",
        "prometheus_client>=0.21",
        "click>=8.2",
        "rich>=13",
        "twisted[tls]>=26.10",
    ],
    "zcml": ["zope.configuration>=6"],
    # The ledger's store blocks in threads of its own, which a client for the reactor cannot.
    "redis": ["redis>=6", "txredisapi>=1.6"],
    "mongo": ["pymongo>=4.18"],
    "nats": ["nats-py>=2.16"],
    "sql": ["SQLAlchemy>=2"],
    "postgres": ["psycopg>=3.2"],
    "pyramid": [
        "SQLAlchemy>=2",
        "pyramid>=2",
        "pyramid_tm>=2.5",
        "transaction>=5",
        "zope.sqlalchemy>=3",
    ],
    "django": ["Django>=5.2"],
    "celery": ["celery>=5.7"],
    "aiohttp": ["aiohttp>=3.11"],
    "sanic": ["sanic>=24.12"],
}

# What a developer needs. Make, tox and CI install these by name.
DEVELOPMENT = {
    "test": [
        "SQLAlchemy[asyncio]>=2",
        "aiosqlite>=0.20",
        "asyncpg>=0.30",
        "build>=1.2",
        "celery>=5.7",
        "cent>=5.2",
        "centrifuge-python>=0.7",
        "Flask>=3",
        "gunicorn>=23",
        "hypothesis>=6.120",
        "klein>=24.8",
        "playwright>=1.50",
        "psycopg[binary]>=3.2",
        "pyramid_retry>=2.1",
        "pytest>=9",
        "pytest-timeout>=2.4",
        "requests>=2.32",
        "websockets>=13",
    ],
    "lint": ["ruff>=0.14"],
    "types": ["mypy>=2", "mypy-zope>=1.0.15"],
    "docs": ["Sphinx>=8", "sphinxcontrib-zopeext>=0.4.3", "towncrier>=24"],
    "bench": [
        "aiohttp>=3.10",
        "aiosignal>=1.3",
        "blinker>=1.9",
        "celery>=5.5",
        "channels>=4.2",
        "daphne>=4.2",
        "Django>=5.2",
        "eventkit>=1",
        "pluggy>=1.5",
        "procrastinate>=3",
        "psygnal>=0.11",
        "PyDispatcher>=2",
        "pyee>=13",
        "python-socketio>=5.11",
        "reactivex>=4",
        "socketify>=0.0.31",
        "uvicorn>=0.30",
        "uvloop>=0.21",
        "websockets>=13",
        "zope.event>=5",
    ],
}


def version() -> str:
    """Read the version from the package, without importing it."""
    text = (HERE / "oni" / "__init__.py").read_text(encoding="utf-8")
    found = re.search(r'^__version__ = "([^"]+)"$', text, re.MULTILINE)
    if found is None:
        raise SystemExit("oni/__init__.py names no __version__")
    return found[1]


def union(extras: dict[str, list[str]]) -> list[str]:
    """Give every requirement of these extras once, sorted."""
    return sorted({requirement for group in extras.values() for requirement in group})


setup(
    version=version(),
    # No __init__.py lies under twisted/: the plugin joins Twisted's own package.
    packages=[*find_packages(include=["oni", "oni.*"]), "twisted.plugins"],
    include_package_data=True,
    install_requires=CORE,
    extras_require={
        **OPTIONAL,
        "all": union(OPTIONAL),
        **DEVELOPMENT,
        "dev": union(DEVELOPMENT),
    },
    zip_safe=False,
)
