# shellcheck shell=bash
# Talking to a guest that `scripts/guest` has booted. Needs lib/common.sh; the protocol is
# described in lib/guest-init.

# guest_wait CHANNEL SECONDS PID: waits until the guest, which is process PID, obeys its command
# channel; gives up early if the process ends.
guest_wait() {
    guest_run "$1" "$2" true "$3"
}

# guest_run CHANNEL SECONDS COMMAND [PID]: runs COMMAND (one line of shell) in the guest, prints
# its output and returns its status; 124 if the guest has not finished it within SECONDS.
guest_run() {
    local channel=$1 deadline=$((SECONDS + $2)) command=$3 pid=${4:-$$} status=124
    local from to socat_pid
    while ((SECONDS < deadline)) && kill -0 "$pid" 2>/dev/null; do
        if channel_open "$channel" && channel_hello "$deadline"; then
            status=0
            channel_obey "$deadline" "$command" || status=$?
            channel_close
            break
        fi
        # QEMU is not listening yet.
        channel_close
        sleep 0.1
    done
    return "$status"
}

# channel_open CHANNEL: sets guest_run's from, to and socat_pid.
channel_open() {
    from='' to='' socat_pid=''
    [[ -S $1 ]] || return 1
    coproc SOCAT { exec socat -t 0.2 STDIO "UNIX-CONNECT:$1" 2>/dev/null; }
    # shellcheck disable=SC2153  # coproc sets SOCAT_PID
    socat_pid=$SOCAT_PID
    exec {from}<&"${SOCAT[0]}" {to}>&"${SOCAT[1]}"
}

channel_close() {
    [[ $socat_pid ]] || return 0
    exec {from}<&- {to}>&-
    kill "$socat_pid" 2>/dev/null || true
    wait "$socat_pid" 2>/dev/null || true
}

# channel_send TEXT: in a subshell, because writing to a guest that has gone raises SIGPIPE.
channel_send() {
    (printf '%s\n' "$1" >&"$to") 2>/dev/null
}

# channel_hello DEADLINE: says hello until the guest answers; 1 if it does not, or has gone.
channel_hello() {
    local line
    while ((SECONDS < $1)); do
        channel_send $'\nhello' || return 1
        while IFS= read -r -t 0.3 -u "$from" line; do
            [[ $line != ready ]] || return 0
        done
    done
    return 1
}

# channel_obey DEADLINE COMMAND: sends the command, prints its output, returns its status.
channel_obey() {
    local id=h$$x$RANDOM line begun=''
    channel_send "run $id $2" || return 124
    while ((SECONDS < $1)); do
        if ! IFS= read -r -t 1 -u "$from" line; then
            # A second without a whole line, or the guest has gone.
            begun+=$line
            kill -0 "$socat_pid" 2>/dev/null || break
            continue
        fi
        line=$begun$line begun=''
        case $line in
        "out $id "*) printf '%s\n' "${line#"out $id "}" ;;
        "done $id "*) return "${line#"done $id "}" ;;
        esac
    done
    return 124
}
