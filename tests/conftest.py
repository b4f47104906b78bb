"""What all tests share."""

import os

from hypothesis import settings

pytest_plugins = ["tests.support.postgres_servers"]

# A failure prints a blob for @reproduce_failure; --hypothesis-seed (make test SEED=...) repeats a
# whole run. So "ci" stays random: each run looks at new examples, and none is lost.
settings.register_profile("dev", deadline=None, print_blob=True)
settings.register_profile("ci", deadline=None, print_blob=True, derandomize=False, database=None)
settings.load_profile("ci" if os.environ.get("CI") else "dev")
