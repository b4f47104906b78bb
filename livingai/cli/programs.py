"""A program of the user's, named as ``module:function``."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from typing import Any

from livingai.cli.exit_status import CommandError, ExitStatus


def load_program(name: str) -> Callable[..., Any]:
    """The function that ``module:function`` names; modules of the working directory are found, too.

    Importing runs the module. What that raises is the program's own fault, and comes out.

    Raises:
        CommandError: the name has another form, or there is no such module or function.
    """
    module_name, sign, attribute = name.partition(":")
    if not sign or not module_name or not attribute:
        raise CommandError(f"{name!r} is not of the form module:function", ExitStatus.USAGE)
    if (here := os.getcwd()) not in sys.path:
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise  # the module is there, and imports one that is not
        raise CommandError(
            f"there is no module {module_name!r} here or where Python looks", ExitStatus.USAGE
        ) from error
    for part in attribute.split("."):
        found = getattr(found, part, None)
    if not callable(found):
        raise CommandError(f"{module_name!r} has no function {attribute!r}", ExitStatus.USAGE)
    function: Callable[..., Any] = found
    return function
