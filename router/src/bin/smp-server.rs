//! The messaging router.

#![forbid(unsafe_code)]

use std::io::{stderr, stdin, stdout};
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    ringpost_router::cli::main(std::env::args_os(), &mut stdin().lock(), &mut stdout(), &mut stderr())
}
