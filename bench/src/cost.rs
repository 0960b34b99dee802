//! The floor: what no router can do without, measured on this machine in microseconds of processor time.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use ringpost_protocol::tls::SEALED_BLOCK_BYTES;
use ringpost_protocol::tls::provider::provider;
use ringpost_store::disk::HeapBuffer;
use ringpost_store::log::BLOCK_BYTES as LOG_BLOCK_BYTES;
use rustix::fs::OFlags;
use rustix::time::{ClockId, clock_gettime};
use rustls::SupportedCipherSuite;

use crate::material::BODY_BYTES;
use crate::meter::Meter;
use crate::stages::find;
use crate::{Fault, Outcome};

/// How long each primitive is measured.
const MEASURED: Duration = Duration::from_millis(200);
/// Steps before it counts.
const WARM_UP: usize = 20;
/// Steps of one sample.
const SAMPLE: u32 = 16;

/// One kind of work: how often a message or handshake needs it, and what it takes.
#[derive(Clone, Debug)]
pub struct Line {
    pub name: &'static str,
    pub times: f64,
    pub each_us: f64,
}

impl Line {
    pub fn us(&self) -> f64 {
        self.times * self.each_us
    }
}

/// Lines of the same kind, as a profile can tell kinds apart.
#[derive(Clone, Debug)]
pub struct Group {
    pub kind: crate::profile::Kind,
    pub lines: Vec<Line>,
}

impl Group {
    pub fn us(&self) -> f64 {
        self.lines.iter().map(Line::us).sum()
    }
}

/// What one thing of a stage takes: of many samples the lower quartile, since whatever else runs on the machine only
/// adds to it.
pub fn stage_us(name: &str) -> Outcome<f64> {
    let stage = find(name).ok_or_else(|| format!("no stage {name}"))?;
    let mut step = stage.make()?;
    for _ in 0..WARM_UP {
        step(&mut Meter::untimed())?;
    }
    let mut sample = |meter: &mut Meter| -> Outcome {
        for _ in 0..SAMPLE {
            step(meter)?;
        }
        Ok(())
    };
    let us = samples(|| {
        let mut meter = Meter::timed();
        sample(&mut meter)?;
        Ok(meter.elapsed())
    })?;
    let clock = samples(|| {
        let mut meter = Meter::timed();
        for _ in 0..SAMPLE {
            meter.run(|| ());
        }
        Ok(meter.elapsed())
    })?;
    Ok((us - clock).max(0.0) / f64::from(SAMPLE) / f64::from(stage.per_step))
}

/// The lower quartile of many samples, in microseconds.
fn samples(mut sample: impl FnMut() -> Outcome<Duration>) -> Outcome<f64> {
    let began = Instant::now();
    let mut taken = Vec::new();
    while began.elapsed() < MEASURED || taken.len() < 8 {
        taken.push(sample()?);
    }
    taken.sort_unstable();
    Ok(taken.get(taken.len() / 4).map_or(0.0, |quartile| quartile.as_secs_f64() * 1e6))
}

/// The processor time of this thread, the kernel's part included.
fn thread_cpu() -> Outcome<Duration> {
    Ok(clock_gettime(ClockId::ThreadCPUTime).try_into()?)
}

fn cpu_of(work: impl FnOnce() -> Outcome) -> Outcome<Duration> {
    let before = thread_cpu()?;
    work()?;
    Ok(thread_cpu()?.saturating_sub(before))
}

/// A connection on the loopback network.
fn socket_pair() -> Outcome<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let one = TcpStream::connect(listener.local_addr()?)?;
    let (other, _) = listener.accept()?;
    for stream in [&one, &other] {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    }
    Ok((one, other))
}

/// Sending and receiving a record with a block: half of it is what one operation takes.
pub fn socket_us() -> Outcome<f64> {
    let (mut one, mut other) = socket_pair()?;
    let mut record = vec![7; SEALED_BLOCK_BYTES];
    let us = samples(|| {
        cpu_of(|| {
            for _ in 0..SAMPLE {
                one.write_all(&record)?;
                other.read_exact(&mut record)?;
            }
            Ok(())
        })
    })?;
    Ok(us / f64::from(SAMPLE) / 2.0)
}

/// Accepting a connection and closing it.
pub fn accept_us() -> Outcome<f64> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let us = samples(|| {
        let mut spent = Duration::ZERO;
        for _ in 0..SAMPLE {
            let client = TcpStream::connect(address)?;
            spent += cpu_of(|| {
                let (accepted, _) = listener.accept()?;
                drop(accepted);
                Ok(())
            })?;
            drop(client);
        }
        Ok(spent)
    })?;
    Ok(us / f64::from(SAMPLE))
}

/// The checksum of what a message takes in the log: its body, and its share of an index page.
pub fn checksum_us(messages_per_commit: f64) -> Outcome<f64> {
    let bytes = vec![7; BODY_BYTES];
    let page = vec![7; LOG_BLOCK_BYTES];
    let each = |bytes: &[u8]| {
        samples(|| {
            let began = Instant::now();
            for _ in 0..SAMPLE {
                std::hint::black_box(crc32c::crc32c(std::hint::black_box(bytes)));
            }
            Ok(began.elapsed())
        })
    };
    Ok((each(&bytes)? + each(&page)? / messages_per_commit) / f64::from(SAMPLE))
}

/// The kernel's part in bringing a message to the disk, when so many go together: a direct write that ends when it is
/// durable, in `directory`.
pub fn write_us(directory: &Path, messages_per_commit: f64) -> Outcome<f64> {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small number")]
    let messages = messages_per_commit.round().clamp(1.0, 200.0) as usize;
    let blocks = 1 + messages * BODY_BYTES.div_ceil(LOG_BLOCK_BYTES);
    let buffer = HeapBuffer::new(blocks * LOG_BLOCK_BYTES);
    let path = directory.join("ringpost-floor");
    let file = open_direct(&path)?;
    std::fs::remove_file(&path)?;
    // As the log does it: the space is there before.
    file.set_len((buffer.as_ref().len() * WRITES) as u64)?;
    rustix::fs::fallocate(
        &file,
        rustix::fs::FallocateFlags::empty(),
        0,
        (buffer.as_ref().len() * WRITES) as u64,
    )
    .or_else(|error| if error == rustix::io::Errno::OPNOTSUPP { Ok(()) } else { Err(error) })?;
    let mut spent = Vec::new();
    for number in 0..WRITES {
        let offset = (number * buffer.as_ref().len()) as u64;
        spent.push(cpu_of(|| Ok(file.write_all_at(buffer.as_ref(), offset)?))?);
    }
    spent.sort_unstable();
    let quartile = spent.get(WRITES / 4).map_or(0.0, |spent| spent.as_secs_f64() * 1e6);
    #[allow(clippy::cast_precision_loss, reason = "a small number")]
    Ok(quartile / messages as f64)
}

/// Writes that are measured.
const WRITES: usize = 200;

/// Some file systems (of memory) know no direct writes.
fn open_direct(path: &Path) -> Outcome<File> {
    let flags = |flags: OFlags| i32::try_from(flags.bits()).map_err(Fault::from);
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    match options.clone().custom_flags(flags(OFlags::DIRECT | OFlags::DSYNC)?).open(path) {
        Ok(file) => Ok(file),
        Err(_) => Ok(options.custom_flags(flags(OFlags::DSYNC)?).open(path)?),
    }
}

/// The floor of a delivered message.
pub fn of_message(directory: &Path, messages_per_commit: f64) -> Outcome<Vec<Group>> {
    use crate::profile::Kind;
    let line = |name, times, stage| Ok::<_, Fault>(Line { name, times, each_us: stage_us(stage)? });
    Ok(vec![
        Group {
            kind: Kind::Ciphers,
            lines: vec![
                line("open or seal a TLS record", 4.0, "tls-open")?,
                line("open or seal a block", 4.0, "box-seal")?,
                line("seal the message", 1.0, "message-seal")?,
                line("check the authenticator", 1.0, "authenticator")?,
            ],
        },
        Group {
            kind: Kind::Sha512,
            lines: vec![
                line("hash the message", 1.0, "message-hash")?,
                line("derive a block's key", 4.0, "chain")?,
            ],
        },
        Group { kind: Kind::Ed25519, lines: vec![line("check the ACK's signature", 1.0, "ed25519-verify")?] },
        Group {
            kind: Kind::Checksum,
            lines: vec![Line { name: "checksum", times: 1.0, each_us: checksum_us(messages_per_commit)? }],
        },
        Group {
            kind: Kind::Kernel,
            lines: vec![
                Line { name: "send or receive 16 KB", times: 4.0, each_us: socket_us()? },
                Line {
                    name: "write to the disk",
                    times: 1.0,
                    each_us: write_us(directory, messages_per_commit)?,
                },
            ],
        },
    ])
}

/// The floor of a connection: TCP, TLS with X25519 and Ed25519, hello blocks, one PING.
pub fn of_handshake() -> Outcome<Vec<Group>> {
    use crate::profile::Kind;
    let line = |name, times, stage| Ok::<_, Fault>(Line { name, times, each_us: stage_us(stage)? });
    Ok(vec![
        Group {
            kind: Kind::X25519,
            lines: vec![
                line("make a key: TLS, session", 2.0, "make-key")?,
                line("agree: TLS, session", 2.0, "agree")?,
            ],
        },
        Group { kind: Kind::Ed25519, lines: vec![line("sign", 2.0, "ed25519-sign")?] },
        Group {
            kind: Kind::Ciphers,
            lines: vec![
                line("open or seal a TLS record", 4.0, "tls-open")?,
                line("open or seal a block", 2.0, "box-seal")?,
            ],
        },
        Group { kind: Kind::Sha512, lines: vec![line("derive a block's key", 2.0, "chain")?] },
        Group {
            kind: Kind::Kernel,
            lines: vec![
                Line { name: "send or receive 16 KB", times: 4.0, each_us: socket_us()? },
                Line { name: "accept and close", times: 1.0, each_us: accept_us()? },
            ],
        },
    ])
}

/// What a handshake takes beyond its floor in any router, of what the floor leaves out.
#[derive(Clone, Copy, Debug)]
pub struct Beyond {
    /// Hashing the handshake of TLS and deriving its keys.
    pub schedule_us: f64,
    /// All of the kernel's part, instead of that in the floor, if nothing is ever waited for.
    pub flights_us: f64,
    /// The same for a thread that serves one connection after the other, and waits for each message.
    pub exchange_us: f64,
}

pub fn beyond_handshake() -> Outcome<Beyond> {
    Ok(Beyond { schedule_us: schedule_us()?, flights_us: flights_us()?, exchange_us: exchange_us()? })
}

/// The key schedule of TLS 1.3 as a router has it (RFC 8446, section 7.1), without resumption and exporters.
fn schedule_us() -> Outcome<f64> {
    let provider = provider();
    let suites = provider.cipher_suites.iter().filter_map(SupportedCipherSuite::tls13);
    let suite = suites.into_iter().next().ok_or("no cipher suite")?;
    let (hash, hkdf) = (suite.common.hash_provider, suite.hkdf_provider);
    let us = samples(|| {
        let began = Instant::now();
        for _ in 0..SAMPLE {
            let mut transcript = hash.start();
            let mut so_far = |message_bytes: usize| {
                transcript.update(&[7; 1024][..message_bytes]);
                transcript.fork_finish()
            };
            let info = |label: &[u8], context: &[u8]| [&[0, 32, 18][..], label, &[32], context].concat();
            let early = hkdf.extract_from_zero_ikm(None);
            let derived = early.expand_block(&[&info(b"tls13 derived", &[7; 32])[..]]);
            let hellos = so_far(310);
            let handshake = hkdf.extract_from_secret(Some(derived.as_ref()), &[9; 32]);
            let derived = handshake.expand_block(&[&info(b"tls13 derived", &[7; 32])[..]]);
            let master = hkdf.extract_from_zero_ikm(Some(derived.as_ref()));
            // Up to the chain, the proof, and each Finished.
            let [_, until_router, until_client] = [840, 72, 72].map(so_far);
            for (secret, messages) in [(&handshake, &hellos), (&master, &until_router)] {
                for label in [b"tls13 c traffic", b"tls13 s traffic"] {
                    let traffic = secret.expand_block(&[&info(label, messages.as_ref())[..]]);
                    let traffic = hkdf.expander_for_okm(&traffic);
                    let (mut key, mut iv) = ([0; 32], [0; 12]);
                    traffic
                        .expand_slice(&[&info(b"tls13 key", &[])[..]], &mut key)
                        .map_err(|_| "a long key")?;
                    traffic.expand_slice(&[&info(b"tls13 iv", &[])[..]], &mut iv).map_err(|_| "a long IV")?;
                    std::hint::black_box((key, iv));
                }
            }
            for messages in [&until_router, &until_client] {
                let traffic = handshake.expand_block(&[&info(b"tls13 traffic", hellos.as_ref())[..]]);
                let finished = hkdf.expander_for_okm(&traffic);
                let finished = finished.expand_block(&[&info(b"tls13 finished", &[])[..]]);
                std::hint::black_box(hkdf.hmac_sign(&finished, messages.as_ref()));
            }
        }
        Ok(began.elapsed())
    })?;
    Ok(us / f64::from(SAMPLE))
}

/// What client and router send in turn until the client closes, in bytes: hellos of TLS, `Finished` and the router's hello,
/// the client's hello and PING with PONG.
const EXCHANGE: [(usize, usize); 3] =
    [(188, 1056), (72, SEALED_BLOCK_BYTES), (2 * SEALED_BLOCK_BYTES, SEALED_BLOCK_BYTES)];
/// `close_notify`.
const END_BYTES: usize = 24;

/// The router's calls of the kernel for a connection with all that is said on it, when what they want is there.
fn flights_us() -> Outcome<f64> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let mut bytes = vec![7; 2 * SEALED_BLOCK_BYTES];
    let us = samples(|| {
        let mut spent = Duration::ZERO;
        for _ in 0..SAMPLE {
            let mut client = TcpStream::connect(address)?;
            client.set_nodelay(true)?;
            let began = Instant::now();
            let (mut router, _) = listener.accept()?;
            router.set_nodelay(true)?;
            spent += began.elapsed();
            for (to, from) in EXCHANGE {
                for part in bytes.get(..to).unwrap_or_default().chunks(SEALED_BLOCK_BYTES) {
                    client.write_all(part)?;
                }
                let began = Instant::now();
                for at in (0..to).step_by(SEALED_BLOCK_BYTES) {
                    let part = SEALED_BLOCK_BYTES.min(to - at);
                    router.read_exact(bytes.get_mut(..part).unwrap_or_default())?;
                }
                router.write_all(bytes.get(..from).unwrap_or_default())?;
                spent += began.elapsed();
                client.read_exact(bytes.get_mut(..from).unwrap_or_default())?;
            }
            client.write_all(bytes.get(..END_BYTES).unwrap_or_default())?;
            client.shutdown(std::net::Shutdown::Write)?;
            let began = Instant::now();
            router.read_exact(bytes.get_mut(..END_BYTES).unwrap_or_default())?;
            let end = router.read(&mut [0])?;
            drop(router);
            spent += began.elapsed();
            if end > 0 {
                return Err("more than was sent".into());
            }
        }
        Ok(spent)
    })?;
    Ok(us / f64::from(SAMPLE))
}

/// The kernel's part of a connection with all that is said on it.
fn exchange_us() -> Outcome<f64> {
    const SAMPLES: u32 = 50;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let client = std::thread::spawn(move || -> std::io::Result<()> {
        let mut bytes = vec![7; 2 * SEALED_BLOCK_BYTES];
        for _ in 0..SAMPLES * SAMPLE {
            let mut stream = TcpStream::connect(address)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(Duration::from_secs(5)))?;
            for (to, from) in EXCHANGE {
                for part in bytes.get(..to).unwrap_or_default().chunks(SEALED_BLOCK_BYTES) {
                    stream.write_all(part)?;
                }
                stream.read_exact(bytes.get_mut(..from).unwrap_or_default())?;
            }
            stream.write_all(bytes.get(..END_BYTES).unwrap_or_default())?;
        }
        Ok(())
    });
    let mut bytes = vec![7; SEALED_BLOCK_BYTES];
    let mut serve = || {
        let (mut stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        for (from, to) in EXCHANGE {
            for at in (0..from).step_by(SEALED_BLOCK_BYTES) {
                let part = SEALED_BLOCK_BYTES.min(from - at);
                stream.read_exact(bytes.get_mut(..part).unwrap_or_default())?;
            }
            stream.write_all(bytes.get(..to).unwrap_or_default())?;
        }
        stream.read_exact(bytes.get_mut(..END_BYTES).unwrap_or_default())?;
        Ok(())
    };
    let mut taken = Vec::new();
    for _ in 0..SAMPLES {
        taken.push(cpu_of(|| (0..SAMPLE).try_for_each(|_| serve()))?);
    }
    client.join().map_err(|_| "the client's thread panicked")??;
    taken.sort_unstable();
    let quartile = taken.get(taken.len() / 4).map_or(0.0, |taken| taken.as_secs_f64() * 1e6);
    Ok(quartile / f64::from(SAMPLE))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn what_cannot_be_avoided_takes_time() {
        for stage in ["box-seal", "ed25519-verify"] {
            assert!(stage_us(stage).unwrap() > 0.5, "{stage}");
        }
        assert!(socket_us().unwrap() > 0.1);
        assert!(accept_us().unwrap() > 0.1);
        assert!(checksum_us(4.0).unwrap() > 0.01);
        let beyond = beyond_handshake().unwrap();
        assert!(beyond.schedule_us > 0.1 && beyond.exchange_us > 0.1, "{beyond:?}");
        let folder = tempfile::tempdir().unwrap();
        assert!(write_us(folder.path(), 4.0).unwrap() > 0.1);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        assert!(stage_us("none").is_err());
    }

    #[test]
    fn sums() {
        let line = |times, each_us| Line { name: "x", times, each_us };
        let group =
            Group { kind: crate::profile::Kind::Ciphers, lines: vec![line(2.0, 1.5), line(1.0, 4.0)] };
        assert!((group.us() - 7.0).abs() < 1e-9);
    }
}
