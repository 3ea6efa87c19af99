# shellcheck shell=bash disable=SC2154
# Holds the list of modules with unsafe code in crates/README.md to what the code says. Needs
# lib/common.sh.

# check_unsafe_map: a step of scripts/test; shows the difference and returns 1 if there is one.
check_unsafe_map() {
    diff --label crates/README.md --label 'allow(unsafe_code)' -U0 <(unsafe_modules_in_map) <(unsafe_modules_in_code)
}

# Paths below crates/, sorted.
unsafe_modules_in_code() {
    cd "$root/crates" || return
    grep -rl --include='*.rs' -E '^ *#!?\[allow\(unsafe_code\)\]' . | sed 's|^\./||' | sort
}

# Lines like "- `virtio/src/region.rs`: why".
unsafe_modules_in_map() {
    # shellcheck disable=SC2016  # backquotes of Markdown
    sed -nE 's/^- `([a-z-]+\/[^`]+\.rs)`.*/\1/p' "$root/crates/README.md" | sort
}
