//! A guest's memory file may be truncated while we read it: the access then raises SIGBUS, which
//! by default kills the process and with it every other guest's network.
//!
//! The handler here finds the region that the address lies in, maps anonymous memory over the
//! whole of it, marks it poisoned and returns, so that the access is repeated and finds zeros. The
//! queues notice by one shared counter, [`poisonings`], that some region was lost, look whether it
//! was one of theirs, and stop with a fault.
//!
//! The handler may interrupt any thread anywhere, so it takes no lock and allocates nothing: the
//! table of regions is a list of entries that are never freed, only used again, with a version
//! number each. An entry that changes while the handler reads it is not the one it looks for: the
//! thread that faulted holds its region alive, and with it the region's entry still.
//!
//! The signal stays blocked while the handler runs (no SA_NODEFER): the handler touches only its
//! own static memory, so a second SIGBUS inside it would be a defect, and should kill.

#![allow(unsafe_code)]

use std::io;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Mutex, Once, PoisonError};

/// One mapped region, or a free place for one. Never freed.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Odd while the entry changes.
    version: AtomicUsize,
    /// First address of the mapping.
    start: AtomicUsize,
    /// Length of the mapping in bytes; zero marks a free entry.
    length_bytes: AtomicUsize,
    /// Set by the handler.
    is_poisoned: AtomicBool,
    /// The entry registered before this one; written before the entry is in the list.
    next: *const Entry,
}

// SAFETY: all fields but `next` are atomic, and `next` points to an entry that is never freed and
// does not change once this one can be seen.
unsafe impl Sync for Entry {}
// SAFETY: as above: an entry belongs to no thread.
unsafe impl Send for Entry {}

/// The newest entry; the others hang behind it.
static ENTRIES: AtomicPtr<Entry> = AtomicPtr::new(ptr::null_mut());
/// Entries to use again. Never taken by the handler.
static FREE: Mutex<Vec<&'static Entry>> = Mutex::new(Vec::new());
/// Regions lost so far.
static POISONINGS: AtomicU64 = AtomicU64::new(0);

/// How many regions were lost since the start. A queue that sees it change looks at its own.
#[inline]
pub(crate) fn poisonings() -> u64 {
    POISONINGS.load(Ordering::Relaxed)
}

impl Entry {
    /// Registers a mapping. Give the entry back with [`Entry::release`] before unmapping it.
    pub(crate) fn register(start: usize, length_bytes: usize) -> &'static Self {
        let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = free.pop() {
            entry.is_poisoned.store(false, Ordering::Relaxed);
            entry.set(start, length_bytes);
            return entry;
        }
        let entry = Box::leak(Box::new(Self {
            version: AtomicUsize::new(0),
            start: AtomicUsize::new(start),
            length_bytes: AtomicUsize::new(length_bytes),
            is_poisoned: AtomicBool::new(false),
            // The lock is held, so nobody else changes the list meanwhile.
            next: ENTRIES.load(Ordering::Relaxed),
        }));
        // Release: whoever finds the entry finds its fields.
        ENTRIES.store(entry, Ordering::Release);
        entry
    }

    /// Takes the mapping out of the handler's sight.
    pub(crate) fn release(&'static self) {
        let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
        self.set(0, 0);
        free.push(self);
    }

    /// Says whether the handler replaced the mapping.
    pub(crate) fn is_poisoned(&self) -> bool {
        self.is_poisoned.load(Ordering::Acquire)
    }

    /// Changes the extent. The caller holds the lock.
    fn set(&self, start: usize, length_bytes: usize) {
        let version = self.version.load(Ordering::Relaxed);
        self.version.store(version.wrapping_add(1), Ordering::Relaxed);
        // A reader that sees a new field below also sees the odd version.
        fence(Ordering::Release);
        self.start.store(start, Ordering::Relaxed);
        self.length_bytes.store(length_bytes, Ordering::Relaxed);
        // Release: a reader that sees this version sees both fields.
        self.version.store(version.wrapping_add(2), Ordering::Release);
    }

    /// The extent, if it did not change meanwhile.
    fn extent(&self) -> Option<(usize, usize)> {
        let before = self.version.load(Ordering::Acquire);
        let start = self.start.load(Ordering::Relaxed);
        let length_bytes = self.length_bytes.load(Ordering::Relaxed);
        fence(Ordering::Acquire);
        let after = self.version.load(Ordering::Relaxed);
        (before == after && before & 1 == 0).then_some((start, length_bytes))
    }
}

/// Installs the handler, once a process; later calls do nothing.
///
/// # Errors
///
/// What sigaction(2) says. It cannot fail with a valid signal number.
pub fn install_sigbus_guard() -> io::Result<()> {
    static INSTALLED: Once = Once::new();
    let mut outcome = Ok(());
    INSTALLED.call_once(|| outcome = install());
    outcome
}

fn install() -> io::Result<()> {
    let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) = on_sigbus;
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    let fields = action.as_mut_ptr();
    // SAFETY: `fields` points to a whole `sigaction`, for which all zeros are valid: no flags, an
    // empty mask and the default action.
    let fields = unsafe { &mut *fields };
    fields.sa_sigaction = handler as libc::sighandler_t;
    fields.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART;
    // SAFETY: `fields` is a valid action whose handler has the type that SA_SIGINFO asks for and
    // is safe to run at any point; the old action is not wanted.
    let status = unsafe { libc::sigaction(libc::SIGBUS, fields, ptr::null_mut()) };
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Replaces the region that was lost, or lets the signal have its default effect.
extern "C" fn on_sigbus(
    _signal: libc::c_int,
    info: *mut libc::siginfo_t,
    _context: *mut libc::c_void,
) {
    // SAFETY: errno is this thread's own.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: `errno` points to this thread's errno, as just returned.
    let errno_before = unsafe { *errno };
    // SAFETY: the kernel hands a valid siginfo to an SA_SIGINFO handler.
    let info = unsafe { &*info };
    // Codes above zero come from the kernel: only those have an address.
    let is_fault = info.si_code > 0;
    // SAFETY: for a fault, the kernel filled in the address member.
    let address = if is_fault { unsafe { info.si_addr() }.addr() } else { 0 };
    if !is_fault || !replace_region_around(address) {
        // SAFETY: SIG_DFL is a valid action; a fault repeats on return and then kills.
        let _ = unsafe { libc::signal(libc::SIGBUS, libc::SIG_DFL) };
        if !is_fault {
            // SAFETY: sends a signal to this thread; it is delivered when the handler returns.
            let _ = unsafe { libc::raise(libc::SIGBUS) };
        }
    }
    // SAFETY: as above; the code that was interrupted finds its errno unchanged.
    unsafe { *errno = errno_before };
}

/// Maps anonymous memory over the region that `address` lies in; false if there is none.
fn replace_region_around(address: usize) -> bool {
    let mut entry = ENTRIES.load(Ordering::Acquire).cast_const();
    loop {
        // SAFETY: null or an entry of the list, which is never freed.
        let Some(current) = (unsafe { entry.as_ref() }) else { return false };
        if let Some((start, length_bytes)) = current.extent()
            && address.wrapping_sub(start) < length_bytes
        {
            return replace(current, start, length_bytes);
        }
        entry = current.next;
    }
}

/// Maps anonymous memory over a region's mapping and marks the entry.
fn replace(entry: &Entry, start: usize, length_bytes: usize) -> bool {
    let target = ptr::without_provenance_mut(start);
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED | libc::MAP_NORESERVE;
    // SAFETY: the extent is exactly one mapping of ours: the entry did not change while it was
    // read, and the thread that faulted inside it keeps its region mapped. Nobody holds Rust
    // references into guest memory, so replacing its bytes invalidates none.
    let mapped = unsafe { libc::mmap(target, length_bytes, protection, flags, -1, 0) };
    if mapped == libc::MAP_FAILED {
        return false;
    }
    entry.is_poisoned.store(true, Ordering::Release);
    POISONINGS.fetch_add(1, Ordering::Release);
    true
}
