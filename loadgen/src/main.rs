//! Capacity benchmark for SMP routers.
mod procfs;
mod report;
mod run;
mod stats;
mod verify;
fn main() {}
