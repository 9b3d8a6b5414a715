"""The command ``completion``: what makes a shell complete this project's words."""

from __future__ import annotations

from typing import Literal

from launch.terminal import EXIT_DONE, write_text

Shell = Literal["bash", "zsh", "fish"]

# The generated function has another name than the file in $fpath, whose body zsh runs to complete
_ZSH_REGISTERS = """
if [[ ${funcstack[1]} == _tfresume ]]; then
  _cyclopts_tfresume "$@"
else
  compdef _cyclopts_tfresume tfresume  # evaluated, after compinit
fi
"""


def completion(shell: Shell, /) -> int:
    """Write the script that lets a shell complete commands and flags.

    For example:

        eval "$(tfresume completion bash)"   # in zsh after compinit
        tfresume completion bash > ~/.local/share/bash-completion/completions/tfresume
        tfresume completion zsh > "${fpath[1]}/_tfresume"
        tfresume completion fish > ~/.config/fish/completions/tfresume.fish

    Args:
        shell: The shell that you use.
    """
    from launch.cli import build_app

    script = build_app().generate_completion(shell=shell)
    write_text(script + _ZSH_REGISTERS if shell == "zsh" else script)
    return EXIT_DONE
