//! When a driver wants to be told (VIRTIO 1.2, 2.7.7 and 2.7.10).

/// Says whether moving an index from `old` to `new` passes the entry that `event` names, all of
/// them running freely: 2.7.7.2 asks for a notification when the entry at index `event` was
/// written, that is when `event` is one of `old`, `old + 1`, … `new - 1`.
///
/// One subtraction and comparison: `event` lies in that window exactly if its distance to the
/// window's last entry is less than the window's length.
#[must_use]
#[inline]
pub const fn needs_notification(event: u16, old: u16, new: u16) -> bool {
    let behind_last = new.wrapping_sub(1).wrapping_sub(event);
    behind_last < new.wrapping_sub(old)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The standard's words, taken literally: was the entry of index `event` written?
    fn entry_was_written(event: u16, old: u16, new: u16) -> bool {
        let mut index = old;
        while index != new {
            if index == event {
                return true;
            }
            index = index.wrapping_add(1);
        }
        false
    }

    #[test]
    fn notification_is_due_exactly_when_the_named_entry_was_written() {
        for old in (0..40).chain(65_500..=65_535) {
            for written in 0..40 {
                let new = u16::wrapping_add(old, written);
                for distance in 0..120 {
                    let event = old.wrapping_sub(60).wrapping_add(distance);
                    assert_eq!(
                        needs_notification(event, old, new),
                        entry_was_written(event, old, new),
                        "event {event}, from {old} to {new}"
                    );
                }
            }
        }
    }

    #[test]
    fn every_event_is_right_around_the_wrap() {
        for event in 0..=u16::MAX {
            assert_eq!(
                needs_notification(event, 65_530, 4),
                entry_was_written(event, 65_530, 4),
                "event {event}"
            );
        }
    }

    #[test]
    fn nothing_written_never_notifies() {
        for event in 0..=u16::MAX {
            assert!(!needs_notification(event, 7, 7));
        }
    }
}
