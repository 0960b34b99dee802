//! Counting the instructions of a stage: the same on every machine and under any load.

use std::path::Path;
use std::process::Command;

use crate::Outcome;
use crate::meter::WINDOW;
use crate::stages::Stage;

/// Instructions of one thing that the stage does. What a first step does once (choosing implementations, making tables)
/// is in both counts and cancels out.
pub fn instructions(programs: &Path, stage: &Stage, slower_percent: u32) -> Outcome<f64> {
    let few = count(programs, stage, stage.steps, slower_percent)?;
    let many = count(programs, stage, 2 * stage.steps, slower_percent)?;
    let difference = many.checked_sub(few).ok_or_else(|| format!("{}: more steps cost less", stage.name))?;
    #[allow(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
    Ok(difference as f64 / f64::from(stage.steps) / f64::from(stage.per_step))
}

/// The processor's features that the code under callgrind finds, which is not all that the machine has.
pub fn cpu(programs: &Path) -> Outcome<String> {
    let output =
        valgrind().arg(programs.join("stages")).arg("--cpu").output().map_err(|error| missing(&error))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
    }
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

fn count(programs: &Path, stage: &Stage, steps: u32, slower_percent: u32) -> Outcome<u64> {
    let output = valgrind()
        .arg(programs.join("stages"))
        .args([stage.name, &steps.to_string(), "--slower-percent", &slower_percent.to_string()])
        .output()
        .map_err(|error| missing(&error))?;
    let told = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("{} under callgrind: {}\n{told}", stage.name, output.status).into());
    }
    collected(&told).filter(|count| *count > 0).ok_or_else(|| {
        format!("{}: callgrind counted nothing: was the function {WINDOW} not found?\n{told}", stage.name)
            .into()
    })
}

/// The C library copies what is long by one instruction that callgrind counts once a byte, though it takes hardly any
/// time, or by a loop: which of them differs by version and machine. So always by a loop.
const COPIES_BY_LOOP: &str =
    "glibc.cpu.x86_rep_movsb_threshold=1000000000:glibc.cpu.x86_rep_stosb_threshold=1000000000";

fn valgrind() -> Command {
    let mut command = Command::new("valgrind");
    command.env("GLIBC_TUNABLES", COPIES_BY_LOOP);
    command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--demangle=no"]);
    command.args(["--collect-atstart=no", &format!("--toggle-collect=*{WINDOW}*")]);
    command
}

fn missing(error: &std::io::Error) -> String {
    format!("valgrind does not start ({error}): apt-get install valgrind")
}

/// The count in what callgrind says at the end.
fn collected(told: &str) -> Option<u64> {
    let (_, rest) = told.lines().find_map(|line| line.split_once("Collected : "))?;
    rest.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_is_found() {
        let told = "==7== Callgrind\n==7== Events    : Ir\n==7== Collected : 123456\n==7==\n";
        assert_eq!(collected(told), Some(123_456));
        assert_eq!(collected("==7== Collected :"), None);
        assert_eq!(collected(""), None);
    }
}
