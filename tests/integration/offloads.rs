//! Checksums and segmentation that are left to somebody else, from net header to net header and to
//! the wire: whoever takes them gets frames as they are, all others get them ready.
//!
//! What must come is made field by field (`support/flow.rs`) and compared byte for byte.

mod abilities;
mod cutting;
mod dissected;
mod hostile;
mod joining;
mod returning;
mod settings;
mod table;

use serde_json::Value;

use crate::support::switch::Switch;

/// Nothing vanishes: what came in at a port was dropped or decided, what was ordered of it left or
/// was dropped. Returns the port's counters.
pub(crate) fn assert_accounted(switch: &Switch, port: &str) -> Value {
    let statistics = switch.statistics(port);
    let count = |name: &str| statistics[name].as_u64().unwrap();
    assert_eq!(count("frames_in"), count("drops_in") + count("decided"), "{statistics}");
    assert_eq!(count("copies_ordered"), count("frames_out") + count("drops_out"), "{statistics}");
    statistics
}
