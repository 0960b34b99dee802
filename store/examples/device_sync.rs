//! Measures how long a device takes to have a block of 16 KiB for certain, to compare a router's latency with.
//!
//! `cargo run --release -p ringpost-store --example device_sync -- DIRECTORY SECONDS`: writes blocks to a new file in the
//! directory, each followed by fdatasync, and prints the median and the 99th percentile of one, in microseconds.

use std::fs::{File, remove_file};
use std::io::{Error, Result, Write};
use std::path::Path;
use std::time::{Duration, Instant};

const BLOCK: [u8; 16_384] = [0x5a; 16_384];

fn measure(path: &Path, time: Duration) -> Result<Vec<u128>> {
    let mut file = File::create_new(path)?;
    let mut took = Vec::new();
    let began = Instant::now();
    while took.is_empty() || began.elapsed() < time {
        let from = Instant::now();
        file.write_all(&BLOCK)?;
        file.sync_data()?;
        took.push(from.elapsed().as_micros());
    }
    took.sort_unstable();
    Ok(took)
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (Some(directory), Some(seconds)) = (arguments.next(), arguments.next()) else {
        return Err(Error::other("usage: device_sync DIRECTORY SECONDS"));
    };
    let seconds = seconds.parse().map_err(|_| Error::other("SECONDS is a number"))?;
    let path = Path::new(&directory).join("device_sync.tmp");
    let took = measure(&path, Duration::from_secs(seconds));
    remove_file(&path)?;
    let took = took?;
    println!("{} {}", took[took.len() / 2], took[took.len() * 99 / 100]);
    Ok(())
}
