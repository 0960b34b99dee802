//! What the system allows the process: open files and locked memory.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files, rings and listeners of a router besides its connections: some dozens a shard.
const OTHER_DESCRIPTORS: u64 = 1_024;

/// Raises a limit to the hard limit, which needs no privilege. Returns what is allowed then; `None` is no limit.
fn raise(resource: Resource, name: &str) -> Option<u64> {
    let limit = getrlimit(resource);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(resource, raised) {
        tracing::warn!("cannot raise the limit of {name}: {error}");
    }
    getrlimit(resource).current
}

/// For the rings of the shards, which say themselves if it is too little.
pub fn raise_locked_memory() {
    raise(Resource::Memlock, "locked memory");
}

/// Returns how many connections fit, at most `connections_max`: more would find no descriptor, which is worse than
/// being turned away.
pub fn raise_open_files(connections_max: usize) -> usize {
    let Some(allowed) = raise(Resource::Nofile, "open files") else { return connections_max };
    let fit = fitting(connections_max, allowed);
    if fit < connections_max {
        tracing::warn!(
            "{allowed} open files are allowed: {fit} connections fit, not the {connections_max} of [RINGPOST] \
             connections. Raise LimitNOFILE (systemd) or ulimit -n"
        );
    }
    fit
}

/// At least one: a limit that leaves no room at all shows itself when the router opens its files.
fn fitting(connections_max: usize, allowed: u64) -> usize {
    let left = allowed.saturating_sub(OTHER_DESCRIPTORS).max(1);
    usize::try_from(left).map_or(connections_max, |left| left.min(connections_max))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limits_are_raised_to_their_maximum() {
        assert_eq!(raise_open_files(1), 1);
        raise_locked_memory();
        for resource in [Resource::Nofile, Resource::Memlock] {
            let limit = getrlimit(resource);
            assert_eq!(limit.current, limit.maximum);
        }
    }

    #[test]
    fn connections_leave_room_for_other_files() {
        assert_eq!(fitting(100, 20_000), 100);
        assert_eq!(fitting(100_000, 20_000), 18_976);
        assert_eq!(fitting(100_000, 10), 1);
    }
}
