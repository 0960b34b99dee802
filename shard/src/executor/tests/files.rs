//! Files.

use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use futures_lite::future::poll_once;
use ringpost_store::disk::HeapBuffer;

use super::super::{File, Opening, sleep, spawn_local};
use super::{requests, run, until};

const BLOCK: usize = 4096;

fn block(value: u8) -> HeapBuffer {
    let mut buffer = HeapBuffer::new(2 * BLOCK);
    buffer.as_mut().fill(value);
    buffer
}

fn file_of_blocks(directory: &Path) -> std::path::PathBuf {
    let path = directory.join("file");
    std::fs::write(&path, vec![9; 4 * BLOCK]).unwrap();
    path
}

#[test]
pub fn blocks_are_written_read_punched_and_synced() {
    let directory = tempfile::tempdir().unwrap();
    let path = file_of_blocks(directory.path());
    let read_path = path.clone();
    run(async move {
        let file = File::open(&path, Opening::DurableWrite).await.unwrap();
        assert_eq!(file.bytes().unwrap(), 4 * BLOCK as u64);
        let (written, buffer) = file.write_at(block(1), BLOCK, BLOCK as u64).await;
        assert_eq!(written.unwrap(), BLOCK);
        // It comes back, for another write.
        let (written, _) = file.write_at(buffer.unwrap(), 2 * BLOCK, 2 * BLOCK as u64).await;
        assert_eq!(written.unwrap(), 2 * BLOCK);
        file.punch(0, BLOCK as u64).await.unwrap();
        file.sync_data().await.unwrap();
        let file = File::open(&path, Opening::Read).await.unwrap();
        let (read, buffer) = file.read_at(HeapBuffer::new(2 * BLOCK), 0).await.unwrap();
        assert_eq!(read, 2 * BLOCK);
        assert!(buffer.as_ref()[..BLOCK].iter().all(|&byte| byte == 0));
        assert!(buffer.as_ref()[BLOCK..].iter().all(|&byte| byte == 1));
        // At the end of the file there is less, and behind it nothing.
        assert_eq!(file.read_at(HeapBuffer::new(2 * BLOCK), 3 * BLOCK as u64).await.unwrap().0, BLOCK);
        assert_eq!(file.read_at(HeapBuffer::new(BLOCK), 8 * BLOCK as u64).await.unwrap().0, 0);
    });
    let content = std::fs::read(read_path).unwrap();
    assert_eq!((content.len(), content[BLOCK], content[4 * BLOCK - 1]), (4 * BLOCK, 1, 1));
}

#[test]
pub fn what_cannot_be_done_is_an_error_and_gives_the_buffer_back() {
    let directory = tempfile::tempdir().unwrap();
    let path = file_of_blocks(directory.path());
    run(async move {
        let missing = File::open(&path.with_extension("missing"), Opening::Read).await.unwrap_err();
        assert_eq!(missing.kind(), std::io::ErrorKind::NotFound);
        let reads = File::open(&path, Opening::Read).await.unwrap();
        let (written, buffer) = reads.write_at(block(1), BLOCK, 0).await;
        assert_eq!(written.unwrap_err().raw_os_error(), Some(libc::EBADF));
        assert_eq!(buffer.unwrap().as_ref().len(), 2 * BLOCK);
    });
}

/// The kernel goes on reading the buffer of a write that nobody waits for any more: it must stay, and the executor must not
/// end before.
#[test]
pub fn a_write_that_was_given_up_is_done_before_the_executor_ends() {
    for round in 1..=20 {
        let directory = tempfile::tempdir().unwrap();
        let path = file_of_blocks(directory.path());
        let read_path = path.clone();
        run(async move {
            let file = File::open(&path, Opening::DurableWrite).await.unwrap();
            let write = spawn_local(async move {
                let _ = file.write_at(block(round), 2 * BLOCK, 0).await;
            });
            drop(write);
            // Memory that was given back would be used again.
            std::hint::black_box(block(0));
        });
        assert_eq!(std::fs::read(read_path).unwrap()[..2 * BLOCK], vec![round; 2 * BLOCK]);
    }
}

/// The numbers of the descriptors that a file is open by.
fn descriptors(path: &Path) -> Vec<String> {
    let links = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    links
        .filter(|link| std::fs::read_link(link.path()).is_ok_and(|target| target == path))
        .map(|link| link.file_name().into_string().unwrap())
        .collect()
}

#[test]
pub fn an_opening_that_was_given_up_leaves_no_descriptor() {
    let directory = tempfile::tempdir().unwrap();
    let path = file_of_blocks(directory.path());
    let given = path.clone();
    run(async move {
        let before = requests();
        for _ in 0..100 {
            let opening = File::open(&given, Opening::Read);
            let opening = std::pin::pin!(opening);
            let _ = poll_once(opening).await;
        }
        assert_eq!(requests(), before + 100);
        until(|| requests() == before).await;
    });
    assert!(descriptors(&path).is_empty());
}

/// It is complete, and whoever waits for it has not heard of that.
#[test]
pub fn an_opening_that_was_given_up_after_its_end_leaves_no_descriptor() {
    let directory = tempfile::tempdir().unwrap();
    let path = file_of_blocks(directory.path());
    let given = path.clone();
    run(async move {
        let before = requests();
        let mut opening = Box::pin(File::open(&given, Opening::Read));
        assert!(poll_once(&mut opening).await.is_none());
        until(|| !descriptors(&given).is_empty()).await;
        sleep(Duration::from_millis(1)).await;
        drop(opening);
        until(|| requests() == before).await;
    });
    assert!(descriptors(&path).is_empty());
}

/// The file is closed meanwhile, and another one would get the number of its descriptor.
#[test]
pub fn an_operation_that_was_given_up_is_done_to_its_own_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = file_of_blocks(directory.path());
    let other_path = directory.path().join("other");
    std::fs::copy(&path, &other_path).unwrap();
    let (given, other_given) = (path.clone(), other_path.clone());
    let other = run(async move {
        let file = File::open(&given, Opening::Write).await.unwrap();
        assert!(poll_once(file.punch(BLOCK as u64, BLOCK as u64)).await.is_none());
        drop(file);
        std::fs::File::options().write(true).open(other_given).unwrap()
    });
    drop(other);
    let mut expected = vec![9; 4 * BLOCK];
    assert!(std::fs::read(other_path).unwrap() == expected);
    expected[BLOCK..2 * BLOCK].fill(0);
    assert!(std::fs::read(path).unwrap() == expected);
}

#[test]
pub fn what_must_be_durable_is_opened_so() {
    let directory = tempfile::tempdir().unwrap();
    let path = file_of_blocks(directory.path());
    // Not every file system can do without the page cache.
    let can = std::fs::File::options().read(true).custom_flags(libc::O_DIRECT).open(&path).is_ok();
    let direct = if can { libc::O_DIRECT } else { 0 };
    run(async move {
        for (opening, durable) in [(Opening::Write, 0), (Opening::DurableWrite, libc::O_DSYNC)] {
            let file = File::open(&path, opening).await.unwrap();
            let [number] = &descriptors(&path)[..] else { panic!("it is open once") };
            let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{number}")).unwrap();
            let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap();
            let flags = i32::from_str_radix(flags.trim(), 8).unwrap();
            assert_eq!(flags & libc::O_DSYNC, durable);
            assert_eq!(flags & libc::O_DIRECT, direct);
            assert_ne!(flags & libc::O_CLOEXEC, 0);
            drop(file);
        }
    });
}
