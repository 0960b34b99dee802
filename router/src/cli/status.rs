//! Options of `smp-server status`.

use std::io::IsTerminal;

use clap::Args;

use crate::operator::status::StatusOptions;

#[derive(Debug, Args)]
pub struct StatusArguments {
    /// Show it again and again, every SECS seconds (2 if not given), with what
    /// happens in a second
    #[arg(long, value_name = "SECS", num_args = 0..=1, default_missing_value = "2")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=86_400))]
    watch: Option<u64>,

    /// Print the report as JSON, one line each time
    #[arg(long)]
    json: bool,
}

impl StatusArguments {
    pub fn options(&self) -> StatusOptions {
        StatusOptions {
            watch_secs: self.watch,
            json: self.json,
            is_terminal: std::io::stdout().is_terminal(),
        }
    }
}
