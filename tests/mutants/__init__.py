"""Deliberate faults, one at a time, and the tests that have to notice each: ``make mutants``.

A table per room (``tests/mutants/*.toml``) has entries of this form::

    [[mutant]]
    name = "cursor-not-terminal"          # unique in its table
    file = "queue/cursor.py"              # the module that is changed
    old = '''text that is there once'''
    new = '''text of the faulty module'''
    tests = ["tests/unit/queue/test_cursor.py"]   # what should notice it: paths or node ids
    survives = "why no test can"          # only for a fault that nothing can notice

The tables are hand-written: a fault is worth an entry if somebody could make it, and if an agent
would lose something by it. ``tests/unit/package/test_mutants.py`` holds that each still applies.
"""
