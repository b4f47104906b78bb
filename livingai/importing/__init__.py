"""Moving what other persistence has stored into a store of livingai: ``livingai import``.

Each kind of source is a module with a function ``run``, as described by
:class:`livingai.importing.kinds.ImportRun`, and a line in :data:`livingai.importing.kinds.KINDS`.
It reads the source, never writes to it, and reads back from the store what it has put there.
"""
