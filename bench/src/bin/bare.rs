//! The latency that this machine gives a program which does with a message only what no router can do without: take it from one
//! socket, have it on the disk, put it into another socket, and spend the time of the cryptography. No TLS, no queues, no ACK.
//!
//! `bare DIRECTORY RATE SECONDS ROUTER_US CLIENTS_US [off]`: eight pairs of connections over the loopback network, so many messages
//! a second at even times, for so long; prints the median and the 99th percentile from when a message was due to when it had
//! arrived, in microseconds. One thread has all sockets and one the disk, on which what came meanwhile is written together; with
//! `off` nothing is written. The thread of the sockets is busy for `ROUTER_US` with each message, half when it comes and half when
//! it goes, and so are the two threads of the clients for `CLIENTS_US`.

use std::fs::{File, OpenOptions, remove_file};
use std::io::{Error, Read, Result, Write};
use std::net::{TcpListener, TcpStream};
use std::num::NonZeroU64;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use ringpost_store::disk::HeapBuffer;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::OFlags;

const PAIRS: usize = 8;
/// A block in a TLS record.
const MESSAGE_BYTES: usize = 16_406;
/// What the log writes for one.
const LOG_BYTES: usize = 20_480;
/// The file is written over and over.
const FILE_BYTES: usize = 64 << 20;
/// Messages that are written together at most.
const BATCH_MAX: usize = 64;

type Message = Vec<u8>;

/// The messages of a batch, with the pair of each.
type Batch = Vec<(usize, Message)>;

/// How long a side computes, twice for each message.
#[derive(Clone, Copy)]
struct Busy {
    router: Duration,
    clients: Duration,
}

fn spin(time: Duration) {
    let began = Instant::now();
    while began.elapsed() < time {
        std::hint::spin_loop();
    }
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bare: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (directory, numbers, writes) = match &arguments[..] {
        [directory, numbers @ ..] if numbers.len() == 4 => (directory, numbers, true),
        [directory, numbers @ .., off] if numbers.len() == 4 && off == "off" => (directory, numbers, false),
        _ => return Err(Error::other("usage: bare DIRECTORY RATE SECONDS ROUTER_US CLIENTS_US [off]")),
    };
    let numbers: Vec<u64> = numbers
        .iter()
        .map(|number| number.parse().map_err(|_| Error::other(format!("{number} is no number"))))
        .collect::<Result<_>>()?;
    let &[rate, seconds, router_us, clients_us] = &numbers[..] else {
        return Err(Error::other("four numbers"));
    };
    // Half of it each time.
    let busy =
        Busy { router: Duration::from_micros(router_us) / 2, clients: Duration::from_micros(clients_us) / 2 };
    let path = Path::new(directory).join("bare.tmp");
    let file = if writes { Some(prepare(&path)?) } else { None };
    let took = measure(file, rate.max(1), Duration::from_secs(seconds.max(1)), busy);
    if writes {
        remove_file(&path)?;
    }
    let mut took = took?;
    took.sort_unstable();
    println!("{} {}", took[took.len() / 2], took[took.len() * 99 / 100]);
    Ok(())
}

/// A file all of whose blocks have been written: what is written over costs the device least.
fn prepare(path: &Path) -> Result<File> {
    let direct = OFlags::DIRECT.union(OFlags::DSYNC).bits().cast_signed();
    let file = OpenOptions::new().write(true).create_new(true).custom_flags(direct).open(path)?;
    let mut zeros = HeapBuffer::new(1 << 20);
    zeros.as_mut().fill(1);
    for part in 0..FILE_BYTES >> 20 {
        file.write_all_at(zeros.as_ref(), (part as u64) << 20)?;
    }
    Ok(file)
}

fn measure(file: Option<File>, rate: u64, time: Duration, busy: Busy) -> Result<Vec<u128>> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let pair = || -> Result<(TcpStream, TcpStream)> {
        let one = TcpStream::connect(listener.local_addr()?)?;
        let other = listener.accept()?.0;
        one.set_nodelay(true)?;
        other.set_nodelay(true)?;
        Ok((one, other))
    };
    let (mut senders, mut sources, mut sinks, mut recipients) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..PAIRS {
        let (sender, source) = pair()?;
        let (sink, recipient) = pair()?;
        senders.push(sender);
        sources.push(source);
        sinks.push(sink);
        recipients.push(recipient);
    }
    let every = Duration::from_nanos(1_000_000_000 / rate);
    let count = usize::try_from(time.as_nanos() / every.as_nanos().max(1)).unwrap_or(usize::MAX);
    let began = Instant::now() + Duration::from_millis(50);
    let router = thread::spawn(move || carry(sources, sinks, file, busy.router));
    let receiver = thread::spawn(move || receive(recipients, began, count, busy.clients));
    // By default the kernel wakes a sleeper up to 50 us late.
    rustix::thread::set_current_timer_slack(NonZeroU64::new(1))?;
    for number in 0..count {
        let due = every * u32::try_from(number).unwrap_or(u32::MAX);
        thread::sleep((began + due).saturating_duration_since(Instant::now()));
        let mut message = vec![0x5a; MESSAGE_BYTES];
        message[..8].copy_from_slice(&u64::try_from(due.as_nanos()).unwrap_or(u64::MAX).to_be_bytes());
        spin(busy.clients);
        senders[number % PAIRS].write_all(&message)?;
    }
    let took = receiver.join().map_err(|_| Error::other("the receiver panicked"))??;
    drop(senders);
    router.join().map_err(|_| Error::other("the router panicked"))??;
    Ok(took)
}

/// How long each message took from when it was due.
fn receive(
    mut recipients: Vec<TcpStream>,
    began: Instant,
    count: usize,
    busy: Duration,
) -> Result<Vec<u128>> {
    let mut took = Vec::with_capacity(count);
    let mut message = vec![0; MESSAGE_BYTES];
    while took.len() < count {
        for place in ready(&recipients, None)?.0 {
            recipients[place].read_exact(&mut message)?;
            spin(busy);
            let mut due = [0; 8];
            due.copy_from_slice(&message[..8]);
            let due = began + Duration::from_nanos(u64::from_be_bytes(due));
            took.push(Instant::now().saturating_duration_since(due).as_micros());
        }
    }
    Ok(took)
}

/// The sockets that have something, and whether the other one has.
fn ready(sockets: &[TcpStream], other: Option<&UnixStream>) -> Result<(Vec<usize>, bool)> {
    let mut wanted: Vec<PollFd<'_>> =
        sockets.iter().map(|socket| PollFd::new(socket, PollFlags::IN)).collect();
    if let Some(other) = other {
        wanted.push(PollFd::new(other, PollFlags::IN));
    }
    poll(&mut wanted, None)?;
    let has = |fd: &PollFd<'_>| !fd.revents().is_empty();
    let (all, rest) = wanted.split_at(sockets.len());
    Ok(((0..sockets.len()).filter(|&place| has(&all[place])).collect(), rest.iter().any(has)))
}

/// The router: until a sender closes.
fn carry(
    mut sources: Vec<TcpStream>,
    mut sinks: Vec<TcpStream>,
    file: Option<File>,
    busy: Duration,
) -> Result<()> {
    let (give, take) = channel();
    let (done, finished) = channel();
    let (mut hears, rings) = UnixStream::pair()?;
    let disk = thread::spawn(move || write(&take, &done, rings, file.as_ref()));
    let mut waiting = Batch::new();
    let mut is_writing = false;
    loop {
        let (places, has_written) = ready(&sources, Some(&hears))?;
        for place in places {
            let mut message = vec![0; MESSAGE_BYTES];
            if sources[place].read_exact(&mut message[..]).is_err() {
                drop(give);
                return disk.join().map_err(|_| Error::other("the disk's thread panicked"))?;
            }
            spin(busy);
            waiting.push((place, message));
        }
        if has_written {
            hears.read_exact(&mut [0])?;
            let batch: Batch = finished.recv().map_err(Error::other)?;
            for (place, message) in batch {
                spin(busy);
                sinks[place].write_all(&message[..])?;
            }
            is_writing = false;
        }
        if !is_writing && !waiting.is_empty() {
            let batch = waiting.drain(..waiting.len().min(BATCH_MAX)).collect();
            give.send(batch).map_err(Error::other)?;
            is_writing = true;
        }
    }
}

/// The disk: one batch after the other.
fn write(
    take: &Receiver<Batch>,
    done: &Sender<Batch>,
    mut rings: UnixStream,
    file: Option<&File>,
) -> Result<()> {
    let mut buffer = HeapBuffer::new(BATCH_MAX * LOG_BYTES);
    let mut at = 0;
    for batch in take {
        if let Some(file) = file {
            let bytes = batch.len() * LOG_BYTES;
            if at + bytes > FILE_BYTES {
                at = 0;
            }
            for ((_, message), place) in batch.iter().zip(buffer.as_mut().chunks_mut(LOG_BYTES)) {
                place[..MESSAGE_BYTES].copy_from_slice(&message[..]);
            }
            file.write_all_at(&buffer.as_ref()[..bytes], at as u64)?;
            at += bytes;
        }
        done.send(batch).map_err(Error::other)?;
        rings.write_all(&[1])?;
    }
    Ok(())
}
