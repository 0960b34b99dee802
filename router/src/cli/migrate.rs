//! Options of `smp-server import`, `export` and `check`.

use std::path::PathBuf;

use clap::Args;

use crate::migrate::check::CheckOptions;
use crate::migrate::export::ExportOptions;
use crate::migrate::import::ImportOptions;

#[derive(Debug, Args)]
pub struct ImportArguments {
    /// Directory of the files to import; they stay as they are. Without it they
    /// are those in the state directory, which are renamed to *.imported
    #[arg(long, value_name = "DIRECTORY")]
    from: Option<PathBuf>,

    /// Import in spite of lines that are rejected: what they say is lost
    #[arg(long)]
    accept_rejected: bool,
}

impl ImportArguments {
    pub fn options(self) -> ImportOptions {
        ImportOptions { from: self.from, accept_rejected: self.accept_rejected }
    }
}

#[derive(Debug, Args)]
pub struct ExportArguments {
    /// Directory to write the files into [default: the state directory]
    #[arg(long, value_name = "DIRECTORY")]
    to: Option<PathBuf>,
}

impl ExportArguments {
    pub fn options(self) -> ExportOptions {
        ExportOptions { to: self.to }
    }
}

#[derive(Debug, Args)]
pub struct CheckArguments {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl CheckArguments {
    pub fn options(self) -> CheckOptions {
        CheckOptions { json: self.json }
    }
}
