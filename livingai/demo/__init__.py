"""The demo: many agents checkpoint their runs while processes are killed, and nothing is lost.

``make demo``, or ``python -m livingai.demo``; ``--help`` lists the choices. Read in this order:
``runs`` and ``generator`` (the agents' messages), ``agent`` (a process of agents), ``crew`` (its
parent's view of all such processes), ``faults`` (which processes are killed), ``verify`` (reading
the states back), ``screen`` (the output), ``main``.
"""
