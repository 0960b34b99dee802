//! How many files and sockets the process may have open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files, rings and listeners of a router besides its connections: some dozens a shard.
const OTHER_DESCRIPTORS: u64 = 1_024;

/// Raises the limit to what the system allows. Returns how many connections fit, at most `connections_max`: more would
/// find no descriptor, which is worse than being turned away.
pub fn raise_limit(connections_max: usize) -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!("cannot raise the limit of open files from {}: {error}", shown(limit.current));
    }
    let Some(allowed) = getrlimit(Resource::Nofile).current else { return connections_max };
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

fn shown(limit: Option<u64>) -> String {
    limit.map_or_else(|| "unlimited".to_owned(), |limit| limit.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_raised_to_its_maximum() {
        assert_eq!(raise_limit(1), 1);
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
    }

    #[test]
    fn connections_leave_room_for_other_files() {
        assert_eq!(fitting(100, 20_000), 100);
        assert_eq!(fitting(100_000, 20_000), 18_976);
        assert_eq!(fitting(100_000, 10), 1);
    }
}
