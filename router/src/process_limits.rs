//! What the system allows the process: open files and locked memory.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::exit::{Fatal, Reason};

/// Files, rings, bells and listeners of a router besides its connections: at most so many a shard (38 of them files of its
/// log), and no fewer in all than the second.
const OTHER_OF_SHARD: u64 = 64;
const OTHER_MIN: u64 = 1_024;
/// With so few a router is refused.
const CONNECTIONS_MIN: u64 = 100;

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

fn other_descriptors(shards: usize) -> u64 {
    (shards as u64 * OTHER_OF_SHARD).max(OTHER_MIN)
}

/// Returns how many connections fit, at most `connections_max`: more would find no descriptor, which is worse than
/// being turned away. Refuses a limit with which hardly anybody could connect.
pub fn raise_open_files(connections_max: usize, shards: usize) -> Result<usize, Fatal> {
    let Some(allowed) = raise(Resource::Nofile, "open files") else { return Ok(connections_max) };
    let least = other_descriptors(shards) + CONNECTIONS_MIN;
    if allowed < least {
        let message = format!("{allowed} open files are allowed, at least {least} are needed");
        return Err(Fatal::new(Reason::Descriptors, message)
            .remedy("Raise the limit of open files: LimitNOFILE in systemd, ulimit -n in a shell."));
    }
    let fit = fitting(connections_max, allowed, shards);
    if fit < connections_max {
        tracing::warn!(
            "{allowed} open files are allowed: {fit} connections fit, not the {connections_max} of [RINGPOST] \
             connections. Raise LimitNOFILE (systemd) or ulimit -n"
        );
    }
    Ok(fit)
}

fn fitting(connections_max: usize, allowed: u64, shards: usize) -> usize {
    let left = allowed.saturating_sub(other_descriptors(shards));
    usize::try_from(left).map_or(connections_max, |left| left.min(connections_max))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_limits_are_raised_to_their_maximum() {
        assert_eq!(raise_open_files(1, 1).unwrap(), 1);
        raise_locked_memory();
        for resource in [Resource::Nofile, Resource::Memlock] {
            let limit = getrlimit(resource);
            assert_eq!(limit.current, limit.maximum);
        }
    }

    #[test]
    fn connections_leave_room_for_other_files() {
        assert_eq!(fitting(100, 20_000, 1), 100);
        assert_eq!(fitting(100_000, 20_000, 16), 18_976);
        assert_eq!(fitting(100_000, 20_000, 64), 15_904);
    }
}
