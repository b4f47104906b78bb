"""``python -m livingai.demo``; see :mod:`livingai.demo.main`."""

import signal
import sys

# Spawned processes import this module too, under another name.
if __name__ == "__main__":
    # Until there is something to tidy up, Ctrl-C just ends us, without a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

    from livingai.demo.main import main

    sys.exit(main())
