"""The command ``completion``: what makes a shell complete this project's words."""

from __future__ import annotations

from typing import Literal

from launch.terminal import EXIT_DONE, write_text

Shell = Literal["bash", "zsh", "fish"]


def completion(shell: Shell, /) -> int:
    """Write the script that lets a shell complete commands and flags.

    For example:

        eval "$(tfresume completion bash)"
        tfresume completion bash > ~/.local/share/bash-completion/completions/tfresume
        tfresume completion zsh > "${fpath[1]}/_tfresume"
        tfresume completion fish > ~/.config/fish/completions/tfresume.fish

    Args:
        shell: The shell that you use.
    """
    from launch.cli import build_app

    write_text(build_app().generate_completion(shell=shell))
    return EXIT_DONE
