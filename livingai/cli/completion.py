"""``livingai completion``: what makes a shell complete commands and options."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

#: Set by the shell's script when it asks for completions.
VARIABLE = "_LIVINGAI_COMPLETE"
_PROGRAM = "livingai"


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the script that has SHELL complete commands and options.

    \b
    bash  livingai completion bash > ~/.local/share/bash-completion/completions/livingai
    zsh   livingai completion zsh > "${fpath[1]}/_livingai"
    fish  livingai completion fish > ~/.config/fish/completions/livingai.fish
    """
    root = click.get_current_context().find_root().command
    made = get_completion_class(shell)
    assert made is not None, "click knows all shells of the choice"
    click.echo(made(root, {}, _PROGRAM, VARIABLE).source())
