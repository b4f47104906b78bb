"""Coverage-guided fuzzing of what reads foreign bytes (:mod:`tests.support.readers`), with Atheris.

``python -m tests.fuzz`` looks for bytes that a reader neither reads nor refuses: another error, a
crash, a hang, too much memory, a call that none may make. It begins with the valid bytes and the
files of ``tests/data/corpus``, and keeps what reaches new code for the next time.
"""
