# shellcheck shell=bash
# The guests' kernel and root file system. Needs lib/common.sh and lib/packages.sh.
#
# The kernel is Debian's cloud kernel, taken out of its package without installing it. The root
# file system is busybox, iperf3 and ethtool with their libraries, the modules below, and
# lib/guest-init as the first program. Both are kept in target/lab and made again only when
# something they are made of changes.
#
# The image in target/lab/newer is the same with a newer kernel, whose virtio_net has AF_XDP zero
# copy (to receive since Linux 6.11, to send since 6.13), that in target/lab/uml with User Mode Linux.

# In the order in which they load; the second line is what a guest that tags for itself needs.
guest_modules='virtio_ring virtio virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci failover net_failover virtio_net virtio_balloon virtio_mem virtio_console
llc stp garp mrp 8021q'

# The newer kernel has the rest of them built in. Its vmxnet3 is a card that merges frames (LRO).
newer_guest_modules='failover net_failover virtio_net vmxnet3
llc stp garp mrp 8021q'

# User Mode Linux has virtio and its consoles built in.
uml_guest_modules='failover net_failover virtio_net
llc stp garp mrp 8021q'

# Linux cannot be had under this name itself: it stands for the newest build.
guest_kernel_package=linux-image-cloud-amd64

# Where the newer kernel is from. Its list of packages is small, as those of releases are not.
newer_guest_suite=trixie-backports

# guest_image: makes sure that the image exists, and sets guest_kernel and guest_initrd to it.
guest_image() {
    # shellcheck disable=SC2154  # lib/common.sh sets lab
    image_in "$lab" "$guest_modules" fetch_kernel
}

# newer_guest_image: the same with the newer kernel.
newer_guest_image() {
    image_in "$lab/newer" "$newer_guest_modules" fetch_newer_kernel
}

# uml_guest_image: the same with User Mode Linux, a program that is its own kernel.
uml_guest_image() {
    image_in "$lab/uml" "$uml_guest_modules" fetch_uml
}

# image_in PLACE MODULES FETCH: where it is kept, the modules in it, the function that fetches its kernel.
image_in() {
    local place=$1 stamp
    # shellcheck disable=SC2034  # the two results
    guest_kernel=$place/vmlinuz guest_initrd=$place/initrd.gz
    # shellcheck disable=SC2154  # lib/packages.sh sets it
    install_packages "$guest_packages"
    mkdir -p "$place"
    stamp=$(image_stamp)
    # Two scripts at once: the second waits and finds the first one's work.
    exec {image_lock}>"$lab/lock"
    flock --timeout 180 "$image_lock" || fail "another script has been building the guest image for 3 minutes"
    if [[ $(cat "$place/stamp" 2>/dev/null) != "$stamp" ]]; then
        say "building the guest image in ${place#"$root"/}"
        build_image "$@"
        printf '%s\n' "$stamp" >"$place/stamp"
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

# build_image PLACE MODULES FETCH
build_image() (
    # A subshell, so that the trap below is its own.
    work=$(mktemp -d "$lab/build.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    "$3" "$work"
    collect_root "$work/unpacked" "$work/root" "$2"
    find "$work/unpacked" \( -name 'vmlinuz*' -o -name linux.uml \) -type f -exec cp {} "$work/vmlinuz" \;
    pack_root "$work/root" >"$work/initrd.gz"
    mv "$work/vmlinuz" "$work/initrd.gz" "$1/"
)

# pack_root ROOT: prints an archive that the kernel unpacks, after others if need be.
pack_root() {
    (cd "$1" && find . | cpio --quiet -o -H newc --owner 0:0 | gzip -1)
}

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
    if ! download "$1" "$package"; then
        refresh_package_lists
        package=$(kernel_package)
        download "$1" "$package" || fail "could not download $package"
    fi
    dpkg -x "$1"/"$package"_*.deb "$1/unpacked"
}

# fetch_uml WORK: downloads User Mode Linux and unpacks it into WORK/unpacked.
fetch_uml() {
    local package=user-mode-linux
    say "downloading $package (41 MB)"
    if ! download "$1" "$package"; then
        refresh_package_lists
        download "$1" "$package" || fail "could not download $package"
    fi
    dpkg -x "$1"/"$package"_*.deb "$1/unpacked"
}

# download WORK PACKAGE: into WORK, without installing it.
download() {
    (cd "$1" && apt_quietly -o APT::Sandbox::User=root download "$2")
}

# fetch_newer_kernel WORK: the same from $newer_guest_suite. This machine's apt does not know that
# suite and is not told of it: the lists are in WORK. apt checks them by Debian's keys as ever.
fetch_newer_kernel() {
    local work=$1 mirror list packages package apt
    # shellcheck disable=SC2016  # a field's name, for apt
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -m 1 '/debian/*$' || true)
    mkdir -p "$work/lists/partial" "$work/cache/archives/partial"
    printf 'deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] %s %s main\n' \
        "${mirror:-http://deb.debian.org/debian}" "$newer_guest_suite" >"$work/sources.list"
    apt=(-o "Dir::Etc::SourceList=$work/sources.list" -o Dir::Etc::SourceParts=/dev/null -o APT::Sandbox::User=root
        -o "Dir::State::Lists=$work/lists" -o "Dir::Cache=$work/cache" -o Acquire::Languages=none)
    apt_quietly "${apt[@]}" update || fail "could not fetch the package list of $newer_guest_suite"
    # One package until Linux 6.18, later one for the kernel and one for its modules.
    list=$(apt-cache "${apt[@]}" depends --recurse --important "$guest_kernel_package" |
        grep -E '^linux-(image|binary|modules)-[0-9]') || fail "$newer_guest_suite has no $guest_kernel_package"
    mapfile -t packages <<<"$list"
    say "downloading a newer kernel (37 MB): ${packages[*]}"
    (cd "$work" && apt_quietly "${apt[@]}" download "${packages[@]}") || fail "could not download ${packages[*]}"
    for package in "$work"/*.deb; do
        dpkg -x "$package" "$work/unpacked"
    done
}

# kernel_package: prints the name of the package that the kernel is really in, or nothing.
kernel_package() {
    apt-cache depends "$guest_kernel_package" 2>/dev/null |
        awk '$1 == "Depends:" && $2 ~ /^linux-image-/ { print $2; exit }'
}

# collect_root UNPACKED ROOT MODULES: lays the guests' root file system out in ROOT.
collect_root() {
    local unpacked=$1 dest=$2 modules=$3 module path program
    mkdir -p "$dest/lib64" "$dest/modules"
    cp "$root/scripts/lib/guest-init" "$dest/init"
    for program in iperf3 ethtool; do
        copy_program "$(PATH=$PATH:/usr/sbin:/sbin command -v "$program")" "$dest"
    done
    cp /bin/busybox "$dest/bin/busybox"
    cp -L /lib64/ld-linux-x86-64.so.2 "$dest/lib64/"
    for module in $modules; do
        path=$(find "$unpacked" -name "$module.ko*" -print -quit)
        case $path in
        *.ko) cp "$path" "$dest/modules/" ;;
        *.ko.xz) xz -dc "$path" >"$dest/modules/$module.ko" ;;
        *) fail "the kernel package has no module $module" ;;
        esac
        printf '%s\n' "$module" >>"$dest/modules/order"
    done
}

# copy_program PATH ROOT: puts a program with its libraries where guests find them.
copy_program() {
    mkdir -p "$2/bin" "$2/lib"
    cp "$1" "$2/bin/"
    ldd "$1" | awk '$2 == "=>" && $3 ~ /^\// { print $3 }' | xargs -I{} cp -L {} "$2/lib/"
}
