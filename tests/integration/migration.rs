//! Live migration: the dirty log in process (`migration/log.rs`), what front ends can do wrong with
//! it (`migration/hostile.rs`), announcements, and QEMU guests that move from one switch to another
//! (`migration/guests.rs`).

mod announcement;
mod guests;
mod hostile;
mod log;
