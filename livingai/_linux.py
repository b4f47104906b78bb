"""Imported first by whatever needs Linux, so that on other systems that is what is said, and not
the name of the first module of the standard library that is not there."""

import sys

from livingai.errors import PlatformError

if sys.platform != "linux":
    raise PlatformError(
        "livingai needs Linux (its journals and its service rest on what other systems do not "
        f"have), and this is {sys.platform}; run it in a container, or under WSL on Windows"
    )
