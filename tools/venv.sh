#!/bin/sh
# Make a virtual environment with Oni in it, or reuse it where nothing has changed.
#
#   tools/venv.sh EXTRAS [DIRECTORY]      EXTRAS as pip takes them, such as "all,dev"
#
# PYTHON=path chooses the interpreter. What was installed is remembered in DIRECTORY/oni-*.stamp,
# by the content of setup.py and pyproject.toml; setup is redone only when that changes.
set -eu
cd "$(dirname "$0")/.."

extras=$1
directory=${2:-.venv}

say() { printf '\n== %s\n' "$*"; }
stop() { printf '\n!! %s\n' "$1" >&2; shift; for line; do printf '   %s\n' "$line" >&2; done; exit 1; }

wanted=""
if [ -n "${PYTHON:-}" ]; then
    wanted=$(tools/pythons.sh || true)
    [ -n "$wanted" ] || stop "PYTHON=$PYTHON is not a Python 3.11, 3.12 or 3.13." \
        "Oni runs on these three. Point PYTHON at one of them, or leave it out."
    asked=$(printf '%s' "$wanted" | cut -d' ' -f1)
fi

# An environment of another machine, folder or version is of no use: begin again.
state=$("$directory/bin/python" -c '
import pip, sys
if (3, 11) <= sys.version_info[:2] <= (3, 13):
    print("%d.%d" % sys.version_info[:2], sys.prefix)
' 2>/dev/null || true)
have=${state%% *}
if [ -n "$have" ] && [ "${asked:-$have}" = "$have" ]; then
    fresh=""
else
    fresh=yes
fi

key=$(cat setup.py pyproject.toml tools/venv.sh | cksum | tr ' ' '-')
stamp="$directory/oni-$(printf '%s' "$extras" | tr ',' '+').stamp"
mark="$key $PWD $state"
if [ -z "$fresh" ] && [ "$(cat "$stamp" 2>/dev/null || true)" = "$mark" ]; then
    exit 0
fi

if [ -n "$fresh" ]; then
    [ -n "$wanted" ] || wanted=$(tools/pythons.sh | awk '$3 == "ok" { print; exit }')
    [ -n "$wanted" ] || wanted=$(tools/pythons.sh | head -n 1)
    [ -n "$wanted" ] || stop "No Python 3.11, 3.12 or 3.13 was found on PATH or under pyenv." \
        "On Debian 12 and later, or Ubuntu 24.04 and later:" \
        "    sudo apt-get install python3 python3-venv" \
        "Elsewhere: pyenv install 3.12" \
        "If you have one that was not found: make PYTHON=/path/to/python3"
    version=$(printf '%s' "$wanted" | cut -d' ' -f1)
    python=$(printf '%s' "$wanted" | cut -d' ' -f2)
    able=$(printf '%s' "$wanted" | cut -d' ' -f3)
    [ "$able" = ok ] || stop "$python cannot make a virtual environment: its venv module is missing." \
        "On Debian and Ubuntu: sudo apt-get install python$version-venv"
    say "Making $directory with Python $version ($python)"
    "$python" -m venv --clear "$directory"
    state=$("$directory/bin/python" -c 'import sys; print("%d.%d" % sys.version_info[:2], sys.prefix)')
    mark="$key $PWD $state"
    "$directory/bin/python" -m pip install --quiet --disable-pip-version-check --upgrade pip \
        || stop "pip could not reach the package index." "Look at the lines above, and at your network or proxy."
fi

say "Installing Oni with [$extras] into $directory (the first time takes a minute or two)"
rm -f "$stamp"
# setuptools' default editable install hides twisted/plugins; its compat mode does not.
if ! "$directory/bin/python" -m pip install --disable-pip-version-check --progress-bar off \
    --config-settings editable_mode=compat --editable ".[$extras]" >"$directory/install.log" 2>&1; then
    tail -n 25 "$directory/install.log" >&2
    if grep -qE "gcc|cc1|Python\.h|command '[^']*cc'" "$directory/install.log"; then
        version=${state%% *}
        stop "A dependency has no ready-made wheel for this machine and could not be compiled." \
            "On Debian and Ubuntu: sudo apt-get install build-essential libffi-dev python$version-dev"
    fi
    stop "pip could not install what Oni needs." \
        "The last lines are above, all of them in $directory/install.log."
fi
printf '%s\n' "$mark" >"$stamp"
printf '   done\n'
