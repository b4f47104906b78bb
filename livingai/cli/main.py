"""The command line: the group ``livingai`` and the table of its commands.

Output is plain lines, never wrapped and never marked up, so that it can be piped; progress goes to
standard error, and only to a terminal.
"""

from __future__ import annotations

import livingai._linux  # noqa: F401  # isort: skip

import click

from livingai._version import __version__
from livingai.cli.lazy import Commands, LazyCommand
from livingai.failpoint import enter_process

#: All commands: name, module and function in livingai/cli/, a line for ``livingai --help``.
COMMANDS = {
    "list": LazyCommand("listing", "list_runs", "List runs."),
    "show": LazyCommand("tree", "show", "Show what a run did, node by node."),
    "state": LazyCommand("states", "state", "Print the state of a run."),
    "diff": LazyCommand("states", "diff", "Compare the states of two runs."),
    "recover": LazyCommand("recovering", "recover", "Show what a resumed run would do."),
    "replay": LazyCommand("replaying", "replay", "Replay a run as a new one, and compare the two."),
    "resolve": LazyCommand("recovering", "resolve", "Decide about a call that is in doubt."),
    "serve": LazyCommand("service", "serve", "Run the writer service in the foreground."),
    "status": LazyCommand("service", "status", "Show the service's state and what is quarantined."),
    "stop": LazyCommand("service", "stop", "Have the service store what is queued, and end it."),
    "drain": LazyCommand("ending", "drain", "Have everything stored, then end the service."),
    "doctor": LazyCommand("doctor", "doctor", "Explain what is wrong, and what to do."),
    "stat": LazyCommand("stat", "stat", "Show what the service does, a line a second."),
    "top": LazyCommand("top", "top", "Show processes and queue on a live screen."),
    "bench": LazyCommand("bench", "bench", "Measure what saving costs here."),
    "completion": LazyCommand("completion", "completion", "Print a shell's completion script."),
    "tail": LazyCommand("tail", "tail", "Show the outcomes of saves as they come."),
    "check": LazyCommand("check", "check", "Verify the files of a state directory."),
    "requeue": LazyCommand("requeue", "requeue", "Queue quarantined records again."),
    "prune": LazyCommand("store", "prune", "Drop old checkpoints."),
    "delete": LazyCommand("store", "delete", "Delete an execution for good."),
    "fork": LazyCommand("store", "fork", "Copy an execution under a new id."),
    "copy": LazyCommand("store", "copy", "Copy everything from one store to another."),
    "relocate": LazyCommand("relocate", "relocate", "Follow a database that was moved."),
    "mcp": LazyCommand("assistant", "mcp", "Serve an assistant that looks at runs."),
    "backup": LazyCommand("backups", "backup", "Copy a store into a file, while agents write."),
    "restore": LazyCommand("backups", "restore", "Restore a backup."),
    "export": LazyCommand("exporting", "export", "Export runs as JSON lines."),
    "import": LazyCommand("importing", "import_data", "Import an export or another's checkpoints."),
    "import-runs": LazyCommand("runs", "import_runs", "Import recorded message runs (JSONL)."),
}


#: What the commands are for, in the order of ``livingai --help``; others come last.
PURPOSES = {
    "Look at runs": ("list", "show", "state", "diff", "recover", "replay"),
    "Decide and change": ("resolve", "signal", "cancel", "fork", "delete", "prune"),
    "Watch the service": ("status", "stat", "tail", "top", "doctor", "check", "bench"),
    "Run the service": ("serve", "drain", "stop", "requeue"),
    "Move data": (
        "copy", "export", "import", "import-runs", "backup", "restore", "relocate",
    ),
    "Shells and assistants": ("completion", "mcp"),
}  # fmt: skip


@click.group(cls=Commands, lazy=COMMANDS, purposes=PURPOSES)
@click.version_option(__version__)
def main() -> None:
    """Write-behind persistence for AI agents.

    STORE is the file or URL of a store, or its state directory: an argument or --store, else the
    environment variable LIVINGAI_STORE, else `store` in livingai.toml or [tool.livingai].
    """
    enter_process("command")
