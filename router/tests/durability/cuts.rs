//! Files that were cut: the router starts with everything, or says what is missing.

use std::fs;
use std::path::PathBuf;

use ringpost_protocol::address::RouterAddress;
use rustix::process::Signal;

use super::campaign::{Load, drain, make_queues};
use super::support::{Running, stderr};
use super::{address, home, runtime, start};

const BLOCK_BYTES: usize = 4_096;

/// The newest segment, its content, and where what was written ends.
fn last_segment(directory: &PathBuf) -> (PathBuf, Vec<u8>, usize) {
    let mut found: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "seg"))
        .map(|path| {
            let content = fs::read(&path).unwrap();
            let end = content.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
            (path, content, end)
        })
        .filter(|(_, _, end)| *end > BLOCK_BYTES)
        .collect();
    found.sort();
    found.pop().unwrap()
}

/// A router was killed, and the end of its last segment is not there: every byte of the last kilobyte is tried. What
/// reads as zeros is what a crash leaves of a write that did not arrive. Each start must give all messages that were
/// acknowledged before that last commit.
#[test]
fn a_segment_cut_in_its_last_kilobyte_never_stops_the_router() {
    let home = home("segment_mib = 2\n");
    let runtime = runtime();
    let (running, at) = start(&home, 1);
    let queues = runtime.block_on(make_queues(&at, 2));
    let load = runtime.block_on(async {
        let load = Load::start(&at, &queues[..1]);
        load.until_accepted(20).await;
        load
    });
    running.signal(Signal::KILL);
    runtime.block_on(load.ended());
    drop(running);
    let directory = home.data().join("ringpost");
    let saved: Vec<(PathBuf, Vec<u8>)> = fs::read_dir(&directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.clone(), fs::read(&path).unwrap()))
        .collect();
    let (segment, content, end) = last_segment(&directory);
    let mut started = 0;
    for cut in (end - 1_024)..=end {
        for entry in fs::read_dir(&directory).unwrap() {
            fs::remove_file(entry.unwrap().path()).unwrap();
        }
        for (path, content) in &saved {
            fs::write(path, content).unwrap();
        }
        let mut shortened = content.clone();
        shortened[cut..].fill(0);
        fs::write(&segment, shortened).unwrap();
        // A check reads what a start would read; the start itself is tried for some.
        let check = home.run(["check"]);
        assert!(check.status.success(), "cut at {cut} of {end}: {}", stderr(&check));
        if (end - cut).is_multiple_of(64) {
            let running = Running::start(home.smp_server(["start", "--shards", "2"]));
            let at: RouterAddress = address(&home, &running);
            if cut == end {
                runtime.block_on(drain(&at, &queues[..1]));
            }
            started += 1;
        }
    }
    assert_eq!(started, 17);
}
