"""livingai on systems that it does not run on: it says so, in one sentence."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.patience import patience


@pytest.mark.parametrize("platform", ["darwin", "win32", "cygwin", "freebsd14"])
@pytest.mark.parametrize(
    "what",
    [
        "from livingai import CheckpointEngine",
        "import livingai.engine.engine",
        "from livingai import Service",
        "import livingai.service.service",
        "import livingai.cli.main",
        "from livingai import RecoveryEngine",
    ],
)
def test_says_that_it_needs_linux(platform: str, what: str) -> None:
    code = f"""
import sys
sys.platform = {platform!r}
for name in ("fcntl", "resource"):
    sys.modules[name] = None
import livingai
from livingai.errors import LivingAIError
try:
    {what}
except ImportError as error:
    assert isinstance(error, LivingAIError), error
    print(error)
"""
    told = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=patience(60),
        check=False,
    )
    assert told.returncode == 0, told.stderr
    assert told.stdout.startswith("livingai needs Linux")
    assert platform in told.stdout


def test_says_nothing_on_linux() -> None:
    assert sys.platform == "linux"
    code = "import livingai.engine.engine, livingai.cli.main, livingai.service.service"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=patience(60))
