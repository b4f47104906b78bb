"""The version of a framework that an adapter needs.

Each adapter says at its top, before it imports its framework, which releases it is made for. So a
program with another one ends at the import with a sentence that says what to install, and not later
with an ``AttributeError`` in the midst of a run. ``pyproject.toml`` has the same ranges as extras.
"""

from __future__ import annotations

from importlib import metadata

from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

from livingai.errors import FrameworkVersionError


def require(distribution: str, *, at_least: str, below: str, extra: str) -> None:
    """See that a distribution is installed in a supported version.

    Args:
        distribution: its name where packages are published, such as ``openai-agents``.
        at_least: the first version that is supported.
        below: the first one behind it that is not; its pre-releases are not, either.
        extra: the extra of livingai that installs a supported one.

    Raises:
        FrameworkVersionError: it is not installed, or in another version.
    """
    supported = SpecifierSet(f">={at_least},<{below}")
    try:
        installed = metadata.version(distribution)
    except metadata.PackageNotFoundError:
        raise FrameworkVersionError(
            f"this adapter is for {distribution}, which is not installed here; {_how(extra)}"
        ) from None
    try:
        fits = supported.contains(Version(installed), prereleases=True)
    except InvalidVersion:
        fits = False
    if not fits:
        raise FrameworkVersionError(
            f"{distribution} {installed} is installed, and this adapter is made for versions from "
            f"{at_least} to below {below}; {_how(extra)}, or a version of livingai that supports "
            f"{distribution} {installed}"
        )


def _how(extra: str) -> str:
    return f"install one that is supported: pip install 'livingai[{extra}]'"
