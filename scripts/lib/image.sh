# shellcheck shell=bash
# The guests' kernel and root file system. Needs lib/common.sh and lib/packages.sh.
#
# The kernel is Debian's cloud kernel, taken out of its package without installing it. The root
# file system is busybox, iperf3 and ethtool with their libraries, the modules below, and
# lib/guest-init as the first program. Both are kept in target/lab and made again only when
# something they are made of changes.

# In the order in which they load; the second line is what a guest that tags for itself needs.
guest_modules='virtio_ring virtio virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci failover net_failover virtio_net
llc stp garp mrp 8021q'

# Linux cannot be had under this name itself: it stands for the newest build.
guest_kernel_package=linux-image-cloud-amd64

# guest_image: makes sure that the image exists, and sets guest_kernel and guest_initrd to it.
guest_image() {
    local stamp
    # shellcheck disable=SC2034,SC2154  # the two results; lib/common.sh sets lab
    guest_kernel=$lab/vmlinuz guest_initrd=$lab/initrd.gz
    # shellcheck disable=SC2154  # lib/packages.sh sets it
    install_packages "$guest_packages"
    mkdir -p "$lab"
    stamp=$(image_stamp)
    # Two scripts at once: the second waits and finds the first one's work.
    exec {image_lock}>"$lab/lock"
    flock --timeout 180 "$image_lock" || fail "another script has been building the guest image for 3 minutes"
    if [[ $(cat "$lab/stamp" 2>/dev/null) != "$stamp" ]]; then
        say "building the guest image in ${lab#"$root"/}"
        build_image
        printf '%s\n' "$stamp" >"$lab/stamp"
    fi
    exec {image_lock}>&-
}

# image_stamp: prints a digest of everything on this machine that the image is made of.
image_stamp() {
    {
        cat "$root/scripts/lib/image.sh" "$root/scripts/lib/guest-init"
        dpkg-query -W -f '${Package} ${Version}\n' busybox-static iperf3 ethtool
    } | sha256sum
}

build_image() (
    # A subshell, so that the trap below is its own.
    work=$(mktemp -d "$lab/build.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    fetch_kernel "$work"
    collect_root "$work/unpacked" "$work/root"
    cp "$work"/unpacked/boot/vmlinuz-* "$work/vmlinuz"
    (cd "$work/root" && find . | cpio --quiet -o -H newc --owner 0:0 | gzip -1) >"$work/initrd.gz"
    mv "$work/vmlinuz" "$work/initrd.gz" "$lab/"
)

# fetch_kernel WORK: downloads the kernel's package and unpacks it into WORK/unpacked.
fetch_kernel() {
    local package
    package=$(kernel_package)
    if [[ ! $package ]]; then
        refresh_package_lists
        package=$(kernel_package)
    fi
    [[ $package ]] || fail "apt knows no $guest_kernel_package: the guests need Debian's kernel"
    say "downloading $package (27 MB)"
    if ! (cd "$1" && apt_quietly -o APT::Sandbox::User=root download "$package"); then
        refresh_package_lists
        package=$(kernel_package)
        (cd "$1" && apt_quietly -o APT::Sandbox::User=root download "$package") ||
            fail "could not download $package"
    fi
    dpkg -x "$1"/"$package"_*.deb "$1/unpacked"
}

# kernel_package: prints the name of the package that the kernel is really in, or nothing.
kernel_package() {
    apt-cache depends "$guest_kernel_package" 2>/dev/null |
        awk '$1 == "Depends:" && $2 ~ /^linux-image-/ { print $2; exit }'
}

# collect_root UNPACKED ROOT: lays the guests' root file system out in ROOT.
collect_root() {
    local unpacked=$1 dest=$2 module path program
    mkdir -p "$dest/bin" "$dest/lib64" "$dest/lib" "$dest/modules"
    cp "$root/scripts/lib/guest-init" "$dest/init"
    cp /bin/busybox "$dest/bin/busybox"
    for program in iperf3 ethtool; do
        path=$(PATH=$PATH:/usr/sbin:/sbin command -v "$program")
        cp "$path" "$dest/bin/"
        ldd "$path" | awk '$2 == "=>" && $3 ~ /^\// { print $3 }' | xargs -I{} cp -L {} "$dest/lib/"
    done
    cp -L /lib64/ld-linux-x86-64.so.2 "$dest/lib64/"
    for module in $guest_modules; do
        path=$(find "$unpacked" -name "$module.ko*" -print -quit)
        case $path in
        *.ko) cp "$path" "$dest/modules/" ;;
        *.ko.xz) xz -dc "$path" >"$dest/modules/$module.ko" ;;
        *) fail "the kernel package has no module $module" ;;
        esac
        printf '%s\n' "$module" >>"$dest/modules/order"
    done
}
