//! The command line of `smp-server`. Names are those of the reference implementation; what this version does not do yet
//! is refused by name.

mod certificate;
mod init;
pub mod interview;
mod migrate;
mod start;
mod status;
mod unsupported;

use std::ffi::OsString;
use std::io::{BufRead, Write};
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use interview::Interview;

use crate::exit::{Fatal, Reason};
use crate::paths::{CONFIG_DIR_DEFAULT, CONFIG_DIR_VARIABLE, DATA_DIR_DEFAULT, DATA_DIR_VARIABLE, Paths};
use crate::version;

/// Help is wrapped here, whatever the terminal: manuals and tests show the same text.
const HELP_COLUMNS: usize = 80;

#[derive(Debug, Parser)]
#[command(name = "smp-server", disable_version_flag = true, disable_help_subcommand = true)]
#[command(subcommand_required = true, arg_required_else_help = true)]
struct CommandLine {
    /// Print the version
    #[arg(short, long, action = clap::ArgAction::Version)]
    version: Option<bool>,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make keys, certificates and the configuration of a new server
    Init(Box<init::InitArguments>),
    /// Make a new online certificate and key; the server's address stays
    Cert(certificate::CertificateArguments),
    /// Start the server
    #[command(after_help = start::SIGNALS)]
    Start(Box<start::StartArguments>),
    /// Take queues and messages over from a server of the reference implementation
    Import(migrate::ImportArguments),
    /// Write queues and messages for a server of the reference implementation
    Export(migrate::ExportArguments),
    /// Verify the stored queues and messages of a stopped server, and count them
    Check(migrate::CheckArguments),
    /// Show what the running server does, as its control port tells it
    Status(status::StatusArguments),
    /// Delete configuration, keys, queues and messages
    Delete,
}

/// The parser of the command line; manuals are made of it.
pub fn parser() -> clap::Command {
    let environment = format!(
        "Environment:\n  {CONFIG_DIR_VARIABLE}  configuration and keys (default {CONFIG_DIR_DEFAULT})\n  \
         {DATA_DIR_VARIABLE}  state (default {DATA_DIR_DEFAULT})"
    );
    let command = CommandLine::command()
        .version(env!("CARGO_PKG_VERSION"))
        .about(format!("{}: a SimpleX messaging router", version::line()))
        .after_help(environment)
        .term_width(HELP_COLUMNS);
    unsupported::add(command)
}

/// Runs the command line of this process to its end.
pub fn main(
    arguments: impl IntoIterator<Item = OsString>,
    input: &mut dyn BufRead,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> ExitCode {
    let (arguments, foreign) = without_runtime_options(arguments);
    if !foreign.is_empty() {
        // Unit files of the reference have them.
        let _ = writeln!(err, "note: options of the Haskell runtime are passed over: {}", foreign.join(" "));
    }
    let matches = match parser().try_get_matches_from(arguments) {
        Ok(matches) => matches,
        Err(error) => {
            let text = error.render();
            // Help and version are answers, the rest are complaints. Nobody is left to tell if the output is closed.
            let _ = if error.use_stderr() { write!(err, "{text}") } else { write!(out, "{text}") };
            return if error.use_stderr() { ExitCode::from(Reason::Usage.code()) } else { ExitCode::SUCCESS };
        }
    };
    match run(&matches, input, out, err) {
        Ok(()) => ExitCode::SUCCESS,
        Err(fatal) => {
            let _ = writeln!(err, "{fatal}");
            ExitCode::from(fatal.reason.code())
        }
    }
}

fn run(
    matches: &clap::ArgMatches,
    input: &mut dyn BufRead,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<(), Fatal> {
    unsupported::refuse(matches)?;
    let line = CommandLine::from_arg_matches(matches).map_err(|error| {
        Fatal::new(Reason::Usage, error.to_string().trim_start_matches("error: ").to_owned())
    })?;
    let paths = Paths::from_environment();
    match line.command {
        Command::Init(arguments) => {
            crate::init::refuse_to_overwrite(&paths)?;
            let options = arguments.options(&paths, &mut Interview::new(input, out))?;
            crate::init::init(&paths, &options, out)
        }
        Command::Cert(arguments) => crate::certificates::renew(&paths, &arguments.options()?, out),
        Command::Start(arguments) => crate::start::start(&paths, &arguments.options(), out, err),
        Command::Import(arguments) => crate::migrate::import::import(&paths, &arguments.options(), out, err),
        Command::Export(arguments) => crate::migrate::export::export(&paths, &arguments.options(), out, err),
        Command::Status(arguments) => {
            let settings = crate::configuration::settings(&paths)?;
            crate::operator::status::status(&settings, &arguments.options(), out)
        }
        Command::Check(arguments) => crate::migrate::check::check(&paths, &arguments.options(), out),
        Command::Delete => crate::removal::delete(&paths, &mut Interview::new(input, out)),
    }
}

/// Takes out what stands from `+RTS` to `-RTS`, or to the end. Gives the rest, and what was taken out.
pub(crate) fn without_runtime_options(
    arguments: impl IntoIterator<Item = OsString>,
) -> (Vec<OsString>, Vec<String>) {
    let (mut kept, mut foreign) = (Vec::new(), Vec::new());
    let mut inside = false;
    for argument in arguments {
        inside |= argument == "+RTS";
        if inside {
            inside = argument != "-RTS";
            foreign.push(argument.to_string_lossy().into_owned());
        } else {
            kept.push(argument);
        }
    }
    (kept, foreign)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parser_is_consistent() {
        parser().debug_assert();
    }

    #[test]
    fn options_of_another_runtime_are_taken_out() {
        let take = |words: &[&str]| {
            let (kept, foreign) = without_runtime_options(words.iter().map(Into::into));
            (kept.join(" ".as_ref()).into_string().unwrap_or_default(), foreign.join(" "))
        };
        let both = |kept: &str, foreign: &str| (kept.to_owned(), foreign.to_owned());
        assert_eq!(take(&["x", "start"]), both("x start", ""));
        assert_eq!(take(&["x", "start", "+RTS", "-N", "-RTS", "-m"]), both("x start -m", "+RTS -N -RTS"));
        assert_eq!(take(&["x", "start", "+RTS", "-A16m"]), both("x start", "+RTS -A16m"));
    }
}
