"""Places in the file system: one name for each, whatever way a user has named it.

Rules:

1. Whatever a directory, a registry or a URL is derived from is a **real path**: absolute, without
   ``~`` and without symbolic links. Two names of one file would be two services that fence each
   other.
2. What is kept for a server's store is under ``$XDG_STATE_HOME``, else ``~/.local/state``. A
   relative path there is ignored, as the XDG Base Directory Specification asks; it would be another
   place in every working directory.
"""

from __future__ import annotations

import os
import pwd

from livingai.errors import ConfigurationError


def real_path(path: str | os.PathLike[str]) -> str:
    """``path`` with ``~`` and symbolic links resolved; it need not exist.

    Raises:
        ConfigurationError: it begins with ``~`` and there is no such home.
    """
    text = os.fspath(path)
    if text == "~" or text.startswith("~/"):
        text = _home(text) + text[1:]
    elif text.startswith("~"):
        text = os.path.expanduser(text)  # another user's; a file that is just called so stays
    return os.path.realpath(text)


def state_home() -> str:
    """The folder of this user's state directories, an absolute path.

    Raises:
        ConfigurationError: nothing says where this user's files are.
    """
    home = os.environ.get("XDG_STATE_HOME", "")
    if not os.path.isabs(home):
        home = os.path.join(_home("the state directory"), ".local", "state")
    return os.path.join(home, "livingai")


def _home(what: str) -> str:
    """This user's home, from ``$HOME``, else from the user database."""
    home = os.environ.get("HOME", "")
    if not os.path.isabs(home):
        try:
            home = pwd.getpwuid(os.getuid()).pw_dir
        except KeyError:
            home = ""
    if not os.path.isabs(home):
        raise ConfigurationError(
            f"it is not known where {what} is: user {os.getuid()} has no home (HOME is not set to "
            "an absolute path, and there is no entry in the user database); pass directory=... or "
            "set XDG_STATE_HOME to an absolute path"
        )
    return home
