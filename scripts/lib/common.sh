# shellcheck shell=bash
# What every script here shares: where things are, how progress and failures are said, and
# waits that end. Source it after `set -euo pipefail`.

# A command that fails where nothing handles it ends the script: say which one it was.
trap 'printf "%s: line %s of %s: failed: %s\n" "${0##*/}" "$LINENO" "${BASH_SOURCE[0]##*/}" "$BASH_COMMAND" >&2' ERR
set -o errtrace

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
# Things built for tests and the demo, beside what cargo builds; never in git.
# shellcheck disable=SC2034  # used by the scripts that source this file
lab=${CARGO_TARGET_DIR:-$root/target}/lab

# say TEXT...: one line of progress, with the seconds since the script began.
say() {
    printf '%4ds  %s\n' "$SECONDS" "$*"
}

# fail TEXT...: says on standard error what stopped the script, and ends it.
fail() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

# wait_until SECONDS WHAT COMMAND...: tries COMMAND every tenth of a second until it succeeds.
# Returns 1, having said what did not happen, once SECONDS have gone by.
wait_until() {
    local deadline=$((SECONDS + $1)) what=$2 limit=$1
    shift 2
    until "$@" >/dev/null 2>&1; do
        if ((SECONDS >= deadline)); then
            printf '%s: no %s within %d s\n' "${0##*/}" "$what" "$limit" >&2
            return 1
        fi
        sleep 0.1
    done
}

# end_process PID: asks PID, a child of this shell, to end; after 3 s makes it. Never fails.
end_process() {
    local pid=$1 tries=30
    [[ $pid ]] || return 0
    kill -TERM "$pid" 2>/dev/null || true
    while kill -0 "$pid" 2>/dev/null && ((tries-- > 0)); do
        sleep 0.1
    done
    kill -KILL "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
}
