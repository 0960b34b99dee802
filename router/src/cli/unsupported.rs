//! Commands and options of the reference implementation that Ringpost does not need. They are known, so that an operator
//! and an operator's scripts are told what to use instead.

use clap::{Arg, ArgMatches, Command};

use crate::exit::{Fatal, Reason};

/// A command, and what to do instead of each of its own commands.
struct Replaced {
    name: &'static str,
    about: &'static str,
    why: &'static str,
    instead: &'static [(&'static str, &'static str)],
}

const COMMANDS: &[Replaced] = &[
    Replaced {
        name: "journal",
        about: "Not needed: says what to use instead",
        why: "Ringpost keeps messages with their queues in its own log, and has no journal",
        instead: &[
            ("import", "To take messages over, run `smp-server import`."),
            (
                "export",
                "To write the messages log, run `smp-server export`. A journal of the other server is exported by that \
                 server's own `journal export`.",
            ),
            (
                "delete",
                "The folder `messages` in the state directory belongs to the other server: once its messages are \
                 imported it may be removed.",
            ),
        ],
    },
    Replaced {
        name: "database",
        about: "Not needed: says what to use instead",
        why: "Ringpost keeps queues and messages in its own log, and uses no database",
        instead: &[
            (
                "import",
                "To take queues over, run `smp-server import`. If they are in PostgreSQL, first run the other server's \
                 own `database export`.",
            ),
            ("export", "To write the store log and the messages log, run `smp-server export`."),
            (
                "delete",
                "The schema belongs to the other server: drop it with psql when it is not needed any more.",
            ),
        ],
    },
];

/// Command, long name, short name.
const OPTIONS: &[(&str, &str, Option<char>)] =
    &[("init", "database", Some('d')), ("init", "schema", None), ("init", "pool-size", None)];

/// Makes the parser accept them.
pub fn add(mut command: Command) -> Command {
    for replaced in COMMANDS {
        let arguments =
            Arg::new("arguments").num_args(0..).trailing_var_arg(true).allow_hyphen_values(true).hide(true);
        let lines: Vec<String> =
            replaced.instead.iter().map(|(name, advice)| format!("{name}: {advice}")).collect();
        let text = Command::new(replaced.name)
            .about(replaced.about)
            .long_about(format!("{}.", replaced.why))
            .after_help(lines.join("\n\n"))
            .override_usage(format!("smp-server {} [import|export|delete]", replaced.name))
            .arg(arguments);
        command = command.subcommand(text);
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

/// Ends with advice if one of them was given.
pub fn refuse(matches: &ArgMatches) -> Result<(), Fatal> {
    let Some((command, arguments)) = matches.subcommand() else { return Ok(()) };
    if let Some(replaced) = COMMANDS.iter().find(|replaced| replaced.name == command) {
        let mut given = arguments.get_many::<String>("arguments").into_iter().flatten();
        let advice: Vec<&str> = match given.next() {
            Some(word) => {
                replaced.instead.iter().filter(|(name, _)| name == word).map(|(_, text)| *text).collect()
            }
            None => Vec::new(),
        };
        let advice = if advice.is_empty() {
            replaced
                .instead
                .iter()
                .map(|(name, text)| format!("{name}: {text}"))
                .collect::<Vec<_>>()
                .join("\n  ")
        } else {
            advice.join("\n  ")
        };
        return Err(Fatal::new(Reason::Usage, replaced.why).remedy(advice));
    }
    let given =
        |(name, long, _): &&(&str, &str, Option<char>)| *name == command && arguments.contains_id(long);
    match OPTIONS.iter().find(given) {
        Some((_, long, _)) => {
            let message = format!(
                "`smp-server {command} --{long}` is not supported: Ringpost keeps queues in its own log, not in PostgreSQL"
            );
            Err(Fatal::new(Reason::Usage, message).remedy("Leave the option out."))
        }
        None => Ok(()),
    }
}
