# shellcheck shell=bash
# What the switch is compared with takes: packages and huge pages. Needs lib/common.sh and, to
# install, lib/packages.sh.

# The peers, and what starts and watches them.
# shellcheck disable=SC2034  # used by the scripts that source this file
peer_packages='
openvswitch-switch-dpdk is Open vSwitch on DPDK
dpdk-dev has testpmd, the bare forwarder and the load
ethtool sets the offloads of wires'

# install_peers: installs peer_packages, but keeps Open vSwitch's own service from starting: the
# bench runs one of its own, and the machine is to be left with no switch that it did not have.
install_peers() {
    local policy=/usr/sbin/policy-rc.d
    if ((EUID != 0)) || [[ -e $policy ]]; then
        install_packages "$peer_packages"
        return
    fi
    (
        # Debian's packages ask this program before they start a service; 101 forbids it.
        trap 'rm -f "$policy"' EXIT
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod +x "$policy"
        install_packages "$peer_packages"
    )
}

# Two MiB each: 512 MiB for a peer, and as much again for each of two loads, with room.
peer_huge_pages=1024

huge_page_file=/proc/sys/vm/nr_hugepages
huge_pages_before=
huge_page_mount=

# reserve_huge_pages DIRECTORY: sees that there are enough huge pages, and mounts hugetlbfs at
# DIRECTORY unless it is mounted somewhere. Remembers what it found for return_huge_pages.
reserve_huge_pages() {
    local directory=$1 before got
    ((EUID == 0)) || fail "reserving huge pages needs root"
    [[ -w $huge_page_file ]] || fail "this kernel has no huge pages, which DPDK needs"
    before=$(<"$huge_page_file")
    if ((before < peer_huge_pages)); then
        huge_pages_before=$before
        echo "$peer_huge_pages" >"$huge_page_file"
        got=$(<"$huge_page_file")
        ((got >= peer_huge_pages)) ||
            fail "only $got of $peer_huge_pages huge pages: memory is short or in pieces"
    fi
    if ! awk '$3 == "hugetlbfs" { found = 1 } END { exit !found }' /proc/mounts; then
        mkdir -p "$directory"
        mount -t hugetlbfs -o pagesize=2M none "$directory"
        huge_page_mount=$directory
    fi
}

# return_huge_pages: leaves mounts and huge pages as reserve_huge_pages found them. Never fails.
return_huge_pages() {
    if [[ $huge_page_mount ]]; then
        umount "$huge_page_mount" || true
        rmdir "$huge_page_mount" || true
        huge_page_mount=
    fi
    if [[ $huge_pages_before ]]; then
        echo "$huge_pages_before" >"$huge_page_file" || true
        huge_pages_before=
    fi
}
