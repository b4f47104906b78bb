"""Exit statuses of the service's processes, for those that start them. 0: ended in order."""

from typing import Final

#: Another service owns the state directory.
EXIT_RUNNING: Final = 3
#: It was told to end before the store had everything; the rest waits in the state directory.
EXIT_LEFT: Final = 4
