"""ZCML files, where the extra that reads them is installed."""

from __future__ import annotations

import os
from importlib import import_module

from oni.errors import MissingExtraError

__all__ = ["load_zcml"]


def load_zcml(path: str | os.PathLike[str]) -> None:
    """Load a ZCML file into the current site's component registry.

    The directives of Oni (namespace ``http://namespaces.oni/oni``) are known in it; those of
    other packages are included as usual. Nothing is done before the whole file, with all that it
    includes, was read and found free of conflicts.

    Args:
        path: The file.

    Raises:
        MissingExtraError: The extra ``zcml`` is not installed.
        ZcmlError: The file cannot be read, or a directive in it is wrong; the text names file,
            line and cause.
    """
    try:
        zcml = import_module("oni.zca._zcml")
    except ImportError as error:
        raise MissingExtraError("oni.zca.load_zcml", "zcml", error) from error
    zcml.load(os.fspath(path))
