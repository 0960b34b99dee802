//! Writes the manual pages and shell completions of `smp-server` into a directory, for packages: `manual DIRECTORY`.

use std::fs;
use std::path::Path;

use clap_complete::Shell;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = std::env::args_os().nth(1).ok_or("usage: manual DIRECTORY")?;
    let directory = Path::new(&directory);
    let (pages, completions) = (directory.join("man"), directory.join("completions"));
    fs::create_dir_all(&pages)?;
    fs::create_dir_all(&completions)?;
    clap_mangen::generate_to(ringpost_router::cli::parser(), &pages)?;
    let mut parser = ringpost_router::cli::parser();
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut parser, "smp-server", &completions)?;
    }
    Ok(())
}
