//! Asking the processor for memory before it is needed.
//!
//! A request is a hint: the address need not be valid, and where a processor knows no such request
//! nothing happens.

#![allow(unsafe_code)]

/// Bytes of a cache line on the processors this runs on.
pub const CACHE_LINE_BYTES: usize = 64;

/// Asks for the cache line at an address.
#[inline]
pub fn prefetch<T>(address: *const T) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch never faults, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast::<i8>()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

/// Asks for the cache line at an address that is about to be written.
#[inline]
pub fn prefetch_for_writing<T>(address: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch never faults, whatever the address, and processors that do not know this
    // one take it for a NOP.
    unsafe {
        std::arch::asm!("prefetchw [{}]", in(reg) address, options(nostack, preserves_flags));
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}
