"""Google ADK: sessions that survive, shared by processes, and runs that are recorded.

:class:`LivingAISessionService` takes the place of ``DatabaseSessionService``, and
:class:`LivingAIPlugin` records what an agent does; see ``docs/frameworks/google-adk.md``.

Raises:
    FrameworkVersionError: google-adk is not installed, or in a version that is not supported.
"""

from livingai.adapters.versions import require

require("google-adk", at_least="2.13", below="3", extra="google-adk")

from livingai.adapters.google_adk.plugin import LivingAIPlugin  # noqa: E402
from livingai.adapters.google_adk.sessions import LivingAISessionService  # noqa: E402

__all__ = ["LivingAIPlugin", "LivingAISessionService"]
