//! How many files and sockets the process may have open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files, rings and listeners of a router besides its connections: some dozens a shard.
const OTHER_DESCRIPTORS: u64 = 1_024;

/// Raises the limit to what the system allows, and says if that is too little for so many connections.
pub fn raise_limit(connections_max: usize) {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!("cannot raise the limit of open files from {}: {error}", shown(limit.current));
    }
    let allowed = getrlimit(Resource::Nofile).current;
    let wanted = u64::try_from(connections_max).unwrap_or(u64::MAX).saturating_add(OTHER_DESCRIPTORS);
    if allowed.is_some_and(|allowed| allowed < wanted) {
        tracing::warn!(
            "{} open files are allowed, too few for {connections_max} connections ([RINGPOST] connections): raise \
             LimitNOFILE (systemd) or ulimit -n, or lower connections",
            shown(allowed)
        );
    }
}

fn shown(limit: Option<u64>) -> String {
    limit.map_or_else(|| "unlimited".to_owned(), |limit| limit.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_raised_to_its_maximum() {
        raise_limit(1);
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
    }
}
