#!/bin/sh
# Print one line for each supported Python found: version, path, and "ok" or "no-venv".
# The newest comes first, and of one version one that can make a virtual environment.
# PYTHON=path (or name) takes that one alone.

describe() {
    # A pyenv shim stands for many interpreters or for none; ask which one really answers.
    "$1" -c '
import sys
try:
    import ensurepip, venv
    able = "ok"
except ImportError:
    able = "no-venv"
if (3, 11) <= sys.version_info[:2] <= (3, 13) and sys.implementation.name == "cpython":
    print("%d.%d" % sys.version_info[:2], sys.executable, able)
' 2>/dev/null </dev/null
}

candidates() {
    for version in 3.13 3.12 3.11; do
        command -v "python$version"
        for found in "${PYENV_ROOT:-$HOME/.pyenv}/versions/$version".*/bin/python"$version"; do
            case $found in
                *"t/bin/"* | *"dev/bin/"*) ;;
                *) [ -x "$found" ] && echo "$found" ;;
            esac
        done
    done
    command -v python3
    command -v python
}

if [ -n "${PYTHON:-}" ]; then
    describe "$PYTHON"
else
    candidates | while read -r candidate; do describe "$candidate"; done \
        | sort -s -t ' ' -k1,1Vr -k3,3r | awk '!seen[$1]++'
fi
