//! Commands and options of the reference implementation that this version does not have. They are known, so that an
//! operator's scripts are told what is missing instead of running without it.

use clap::{Arg, ArgMatches, Command};

use crate::exit::{Fatal, Reason};

const COMMANDS: &[&str] = &["cert", "delete", "journal", "database"];

/// Command, long name, short name.
const OPTIONS: &[(&str, &str, Option<char>)] = &[
    ("init", "database", Some('d')),
    ("init", "schema", None),
    ("init", "pool-size", None),
    ("init", "control-port", None),
    ("init", "socks-proxy", None),
    ("init", "own-domains", None),
    ("init", "web-path", None),
    ("start", "maintenance", Some('m')),
    ("start", "compact-log", None),
    ("start", "confirm-migrations", None),
];

/// Makes the parser accept them.
pub fn add(mut command: Command) -> Command {
    for name in COMMANDS {
        let arguments = Arg::new("arguments").num_args(0..).trailing_var_arg(true).allow_hyphen_values(true);
        command = command.subcommand(Command::new(name).hide(true).disable_help_flag(true).arg(arguments));
    }
    for (name, long, short) in OPTIONS {
        let option = Arg::new(*long).long(*long).hide(true).num_args(0..=1).default_missing_value("");
        let option = match short {
            Some(short) => option.short(*short),
            None => option,
        };
        command = command.mut_subcommand(name, |command| command.arg(option));
    }
    command
}

/// Ends with the name of the first one that was given.
pub fn refuse(matches: &ArgMatches) -> Result<(), Fatal> {
    let Some((command, arguments)) = matches.subcommand() else { return Ok(()) };
    let refusal = |what: String| {
        let message = format!("{what} is not supported yet");
        Err(Fatal::new(Reason::Usage, message).remedy("See docs/compatibility.md for what is."))
    };
    if COMMANDS.contains(&command) {
        return refusal(format!("`smp-server {command}`"));
    }
    let given =
        |(name, long, _): &&(&str, &str, Option<char>)| *name == command && arguments.contains_id(long);
    match OPTIONS.iter().find(given) {
        Some((_, long, _)) => refusal(format!("`smp-server {command} --{long}`")),
        None => Ok(()),
    }
}
