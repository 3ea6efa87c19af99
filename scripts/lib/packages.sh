# shellcheck shell=bash
# Debian packages: installs what is missing, and says what and why. Needs lib/common.sh.
#
# A list is lines of "PACKAGE WHY". Only what dpkg does not know as installed is asked of apt,
# so on a machine that has everything no network is touched and no privilege is needed.

# What a guest image is made of, and what runs it.
# shellcheck disable=SC2034  # used by the scripts that source this file
guest_packages='
qemu-system-x86 runs the guests
busybox-static is the guests'\'' shell and commands
iperf3 measures throughput, here and in the guests
ethtool sets offloads and queue counts, here and in the guests
cpio packs the guests'\'' root file system
xz-utils unpacks the guests'\'' kernel
socat talks to the guests'\'' command channel'

# What a network of namespaces takes.
# shellcheck disable=SC2034
network_packages='
iproute2 makes namespaces and veth pairs
iputils-ping checks that a path carries traffic'

# install_packages LIST: see above. Fails, naming the command to type, without root.
install_packages() {
    local package why missing=()
    while read -r package why; do
        [[ $package ]] || continue
        if [[ $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) != installed ]]; then
            say "missing: $package, which $why"
            missing+=("$package")
        fi
    done <<<"$1"
    ((${#missing[@]})) || return 0
    command -v apt-get >/dev/null ||
        fail "this is not Debian: install what provides these by hand: ${missing[*]}"
    ((EUID == 0)) ||
        fail "installing needs root; run: apt-get install --no-install-recommends ${missing[*]}"
    apt-cache show "${missing[@]}" >/dev/null 2>&1 || refresh_package_lists
    say "installing ${missing[*]}"
    apt_quietly install --yes --no-install-recommends "${missing[@]}" && return 0
    # A list from last week may name versions that the mirror no longer has.
    refresh_package_lists
    apt_quietly install --yes --no-install-recommends "${missing[@]}" ||
        fail "apt-get could not install ${missing[*]}; its own words are above"
}

# apt_quietly ARGUMENTS...: apt-get that asks nothing and speaks only if it fails. A lock
# that another apt-get holds is waited for, at most a minute.
apt_quietly() {
    local log status=0
    log=$(mktemp)
    DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=60 "$@" >"$log" 2>&1 </dev/null ||
        status=$?
    ((status == 0)) || tail -n 5 "$log" >&2
    rm -f "$log"
    return "$status"
}

# refresh_package_lists: apt-get update, which a fresh machine or an old list needs.
refresh_package_lists() {
    say "fetching apt's package lists, which are missing or too old"
    apt_quietly update || fail "apt-get update failed: is the network there?"
}
