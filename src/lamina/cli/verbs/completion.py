# SPDX-License-Identifier: Apache-2.0
"""`completion`: scripts for shells that ask `lamina __complete` what can be typed next, so that they never need to change."""
from __future__ import annotations

from lamina.cli.context import Cli, CliError
from lamina.cli.flags import Opts, Verb

# The shell's own word splitting at : and = is undone, as names of images have colons in them; candidates then lack what stands before.
BASH = """# lamina completion for bash: source this, or put it into /etc/bash_completion.d/lamina
_lamina() {
    local line=$COMP_LINE word cut=: i candidate
    local -a words=()
    for ((i = 0; i <= COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        if [[ $i == 0 || $line == [[:space:]]* ]]; then
            words+=("$word")
        else
            words[${#words[@]}-1]+=$word
        fi
        line=${line#"${line%%[![:space:]]*}"}
        line=${line#"$word"}
    done
    word=${words[${#words[@]}-1]}
    [[ $COMP_WORDBREAKS == *:* ]] || cut=
    [[ $COMP_WORDBREAKS == *=* ]] && cut+==
    cut=${word%"${word##*[$cut]}"}
    COMPREPLY=()
    local status
    while IFS= read -r candidate; do
        if [[ $candidate == exit:* ]]; then
            status=${candidate#exit:}
        else
            COMPREPLY+=("${candidate#"$cut"}")
        fi
    done < <("${words[0]}" __complete -- "${words[@]:1}" 2>/dev/null; echo "exit:$?")
    if [[ $status == 3 ]]; then
        compopt -o default -o filenames 2>/dev/null
    fi
    if [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *: ]]; then
        compopt -o nospace 2>/dev/null
    fi
}
complete -F _lamina lamina
"""
ZSH = """#compdef lamina
# lamina completion for zsh: source this after compinit, or put it as _lamina into a directory of $fpath
_lamina() {
    local output code
    local -a found
    output=$("${(Q)words[1]}" __complete -- "${(@Q)words[2,CURRENT]}" 2>/dev/null)
    code=$?
    found=("${(@f)output}")
    found=("${(@)found:#}")
    compadd -S '' -- "${(@M)found:#*:}"
    compadd -- "${(@)found:#*:}"
    if [[ $code == 3 ]]; then
        _files
    fi
}
if [[ $funcstack[1] == _lamina ]]; then
    _lamina "$@"
else
    compdef _lamina lamina
fi
"""
FISH = """# lamina completion for fish: put this into ~/.config/fish/completions/lamina.fish, or source it
function __lamina_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    set -l found ($words[1] __complete -- $words[2..-1] "$current" 2>/dev/null)
    set -l code $status
    printf '%s\\n' $found
    if test $code = 3
        __fish_complete_path "$current"
    end
end
complete -c lamina -f -a '(__lamina_complete)'
"""
SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}


def completion(cli: Cli, opts: Opts, args: list[str]) -> int:
    if args[0] not in SCRIPTS:
        raise CliError(f'unsupported shell "{args[0]}": there are scripts for bash, zsh and fish')
    cli.out(SCRIPTS[args[0]], end="")
    return 0


VERBS = {"completion": Verb(completion, "bash|zsh|fish", 1, 1)}
