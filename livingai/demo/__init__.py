"""The demo: many agents checkpoint their runs while processes are killed, and nothing is lost.

``make demo``, or ``python -m livingai.demo``; ``--help`` lists the choices. Read in this order:
``runs`` and ``generator`` (what the agents say), ``agent`` (a process of agents), ``crew`` (who
watches them), ``faults`` (who is killed), ``verify`` (what is left), ``screen`` (what you see),
``main``.
"""
