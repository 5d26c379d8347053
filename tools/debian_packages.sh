#!/bin/sh
# Install the Debian packages that the integration tests' real programs come from, where we may.
# Otherwise say which tests will be skipped. Never fails: the tests themselves tell what is missing.
set -u

# The commands that will do, the package that brings one, and what is tested with it.
needed() {
    cat <<'LIST'
chromium|chromium-browser:chromium:the page in a real browser
curl:curl:the line for curl that the quick start prints
nginx|/usr/sbin/nginx:nginx:the how-to page on nginx
nodejs|node:nodejs:the JavaScript clients
npm:npm:the JavaScript clients
postgres|/usr/lib/postgresql/*/bin/postgres:postgresql:the ledger on PostgreSQL
rabbitmq-server|/usr/lib/rabbitmq/bin/rabbitmq-server:rabbitmq-server:watchers over RabbitMQ
redis-server|valkey-server:redis-server:the ledger on Redis
LIST
}

# The tests look for the same programs in the same way (tests/integration/clients.py).
# Ubuntu's chromium-browser is a stub that only points at a snap.
# nginx knows only -v; RabbitMQ knows neither, and would begin to run.
works() {
    command -v "$1" >/dev/null 2>&1 || return 1
    case "$1" in *rabbitmq-server) return 0 ;; esac
    "$1" --version >/dev/null 2>&1 </dev/null || "$1" -v >/dev/null 2>&1 </dev/null
}

missing=$(needed | while IFS=: read -r programs package purpose; do
    found=""
    for program in $(printf '%s' "$programs" | tr '|' ' '); do
        if works "$program"; then found=yes; fi
    done
    [ -n "$found" ] || printf '%s:%s\n' "$package" "$purpose"
done)
[ -n "$missing" ] || exit 0
packages=$(printf '%s\n' "$missing" | cut -d: -f1 | tr '\n' ' ')

if [ "$(id -u)" = 0 ]; then
    root=""
elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
    root="sudo -n"
else
    root=no
fi

if [ "$root" != no ] && command -v apt-get >/dev/null 2>&1; then
    printf '\n== Installing for the integration tests: %s\n' "$packages"
    log=$(mktemp)
    export DEBIAN_FRONTEND=noninteractive
    # shellcheck disable=SC2086 # both are lists of words
    if { $root apt-get update && $root apt-get install -y --no-install-recommends $packages; } \
        >"$log" 2>&1 </dev/null; then
        rm -f "$log"
        echo "   done"
        exit 0
    fi
    tail -n 5 "$log"
    rm -f "$log"
fi

printf '\n!! Not installed, so these tests will be skipped:\n'
printf '%s\n' "$missing" | while IFS=: read -r package purpose; do
    printf '   %s (package %s)\n' "$purpose" "$package"
done
printf '   To run them: sudo apt-get install %s\n' "$packages"
