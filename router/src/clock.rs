//! The wall clock.

use std::time::{SystemTime, UNIX_EPOCH};

/// Unix time in seconds; 0 for a clock before 1970.
pub fn now_secs() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    i64::try_from(since).unwrap_or(i64::MAX)
}
