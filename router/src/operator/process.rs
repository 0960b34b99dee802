//! What the system says of this process: from `/proc/self`, nothing where that cannot be read.

use std::fs;

/// A thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thread {
    pub id: u32,
    pub name: String,
    /// As in `/proc`: R runs, S sleeps, D waits for a disk.
    pub state: char,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Process {
    pub resident_bytes: u64,
    pub virtual_bytes: u64,
    /// User and system time in milliseconds.
    pub cpu_ms: u64,
    pub open_files: u64,
}

pub fn read() -> Process {
    let page_bytes = u64::try_from(rustix::param::page_size()).unwrap_or(4_096);
    let statm = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let mut pages = statm.split_whitespace().map(|field| field.parse().unwrap_or(0_u64));
    let (virtual_pages, resident_pages) = (pages.next().unwrap_or(0), pages.next().unwrap_or(0));
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let ticks_per_second = rustix::param::clock_ticks_per_second().max(1);
    // User and system time are the 14th and 15th field: the 12th and 13th behind the name.
    let ticks: u64 = after_name(&stat).skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Process {
        resident_bytes: resident_pages * page_bytes,
        virtual_bytes: virtual_pages * page_bytes,
        cpu_ms: ticks * 1_000 / ticks_per_second,
        open_files: open_files(),
    }
}

/// Since version 6.2 the kernel says how many by itself: looking at ten thousand takes it 8 milliseconds.
fn open_files() -> u64 {
    match fs::metadata("/proc/self/fd").map_or(0, |folder| folder.len()) {
        0 => count_open_files(),
        count => count,
    }
}

fn count_open_files() -> u64 {
    fs::read_dir("/proc/self/fd").map_or(0, |files| files.count() as u64)
}

/// The fields of a `stat` file behind the name of the program, which may have any characters in it.
fn after_name(stat: &str) -> impl Iterator<Item = &str> {
    stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace()
}

pub fn thread_count() -> u64 {
    fs::read_dir("/proc/self/task").map_or(0, |tasks| tasks.count() as u64)
}

/// In the order of their numbers.
pub fn threads() -> Vec<Thread> {
    let Ok(tasks) = fs::read_dir("/proc/self/task") else { return Vec::new() };
    let mut threads: Vec<Thread> = tasks
        .filter_map(|task| {
            let path = task.ok()?.path();
            let id = path.file_name()?.to_str()?.parse().ok()?;
            let name = fs::read_to_string(path.join("comm")).ok()?.trim().to_owned();
            let stat = fs::read_to_string(path.join("stat")).ok()?;
            let state = after_name(&stat).next().and_then(|field| field.chars().next()).unwrap_or('?');
            Some(Thread { id, name, state })
        })
        .collect();
    threads.sort_by_key(|thread| thread.id);
    threads
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_process_has_memory_threads_and_files() {
        let process = read();
        assert!(process.resident_bytes > 100_000 && process.virtual_bytes >= process.resident_bytes);
        let files: Vec<_> = (0..100).map(|_| fs::File::open("/dev/null").unwrap()).collect();
        assert!(open_files() >= 100 && count_open_files() >= 100);
        drop(files);
        let threads = threads();
        assert!(threads.iter().any(|thread| thread.state == 'R'), "{threads:?}");
        assert!(thread_count() >= 1);
        // Names may look like the end of themselves.
        assert_eq!(after_name("12 (a) b) S 1 2").collect::<Vec<_>>(), ["S", "1", "2"]);
    }
}
