//! The driver's side of a split ring, and guest memory to put it in: for tests, benches, fuzzing.

use std::os::fd::OwnedFd;

/// A memory file of this many bytes.
#[must_use]
pub fn memory_file(size_bytes: u64) -> OwnedFd {
    let fd = rustix::fs::memfd_create("ringway-test", rustix::fs::MemfdFlags::CLOEXEC)
        .expect("tests may create memory files");
    rustix::fs::ftruncate(&fd, size_bytes).expect("tests have memory");
    fd
}
