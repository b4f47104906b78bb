"""A program of the user's, named as ``module:name``."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

import click

from livingai.cli import output


def load_program(name: str) -> Any:
    """The function, or dict of functions, that ``module:name`` names; modules of the working
    directory are found, too. Importing runs the module.

    Raises:
        click.UsageError: the name has another form, names nothing of that kind, or its module
            cannot be imported.
    """
    module, sign, path = name.partition(":")
    if not sign or not module or not path:
        raise click.UsageError(f"--program {name!r} is not MODULE:NAME")
    if (here := os.getcwd()) not in sys.path:
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module)
        for part in path.split("."):
            found = getattr(found, part)
    except Exception as error:  # a module may raise anything
        what = output.printable(f"{type(error).__name__}: {error}")
        raise click.UsageError(f"--program {name} cannot be imported: {what}") from error
    if not (callable(found) or isinstance(found, dict)):
        raise click.UsageError(f"--program {name} is a {type(found).__name__}, no function")
    return found
