# shellcheck shell=bash disable=SC2154
# Finds what tests left behind: interfaces and XDP programs on them, namespaces, mounts,
# processes, temporary files; and sweeps up after those that were killed. Needs lib/common.sh and
# `scratch`, whose tmp/ is the tests' TMPDIR.
#
# Interfaces, namespaces and mounts are compared with what there was at the beginning, so run it
# on a machine where nobody else makes such things meanwhile. Processes are known by the variable
# RINGWAY_TEST_RUN in their environment, which all that a step starts inherits.

leftovers_begin() {
    leftovers_snapshot >"$scratch/before"
}

# leftovers_snapshot: prints a line for each thing that a test could leave on the machine.
leftovers_snapshot() {
    {
        ip -oneline link show | awk -F': ' '{ split($2, name, "@"); print "interface", name[1] ($0 ~ / xdp/ ? " with an XDP program" : "") }'
        ip netns list | awk '{ print "namespace", $1 }'
        awk '{ print "mount", $5 }' /proc/self/mountinfo
    } | sort
}

# leftovers_check: a step of scripts/test; prints what is left and returns 1 if anything is.
# A kernel takes a moment to tear a namespace or a socket down, so it looks for up to 3 s.
leftovers_check() {
    local deadline=$((SECONDS + 3)) left
    # Or the commands below would find each other.
    unset RINGWAY_TEST_RUN
    while left=$(leftovers_list) && [[ $left ]] && ((SECONDS < deadline)); do
        sleep 0.1
    done
    [[ $left ]] || return 0
    printf 'these were left behind:\n%s\n' "$left"
    return 1
}

leftovers_list() {
    leftovers_snapshot | comm -13 "$scratch/before" -
    find "$scratch/tmp" -mindepth 1 -maxdepth 1 -printf 'file %f\n'
    find /dev/shm /run/ringway -mindepth 1 -name 'ringway*' -printf 'file %p\n' 2>/dev/null || true
    leftovers_processes
}

# leftovers_processes: those of this run that are not this script itself.
leftovers_processes() {
    local environment pid
    for environment in /proc/[0-9]*/environ; do
        pid=${environment//[^0-9]/}
        if grep -qzx "RINGWAY_TEST_RUN=$scratch" "$environment"; then
            printf 'process %s %s\n' "$pid" "$(tr '\0' ' ' <"/proc/$pid/cmdline")"
        fi
    done 2>/dev/null
}

# leftovers_sweep: ends what a killed step was running and takes away what it had no time to. Never
# fails.
leftovers_sweep() {
    local deadline=$((SECONDS + 3)) pid name
    while read -r _ pid _; do
        kill -KILL "$pid" 2>/dev/null || true
    done < <(leftovers_processes)
    # Until they have gone, they make more.
    while [[ $(leftovers_processes) ]] && ((SECONDS < deadline)); do
        sleep 0.1
    done
    for name in $(leftovers_namespaces); do
        ip netns delete "$name" || true
    done
    rm -rf "$scratch/tmp"
}

# leftovers_namespaces: those that came since the beginning and are named as only tests and the demo
# name them, by a process that is no more; their interfaces go with them. Others are somebody else's.
leftovers_namespaces() {
    local thing
    [[ -e $scratch/before ]] || return 0
    leftovers_snapshot | comm -13 "$scratch/before" - | while read -r thing; do
        if [[ $thing =~ ^namespace\ (rwt([0-9]+)-[0-9]+|ringway-([0-9]+))$ ]] &&
            ! readlink -q "/proc/${BASH_REMATCH[2]}${BASH_REMATCH[3]}/exe" >/dev/null; then
            printf '%s\n' "${BASH_REMATCH[1]}"
        fi
    done
}
