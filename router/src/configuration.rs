//! Finding and reading the ini.

use std::fs::File;
use std::io::{self, Read};

use crate::exit::{Fatal, Reason};
use crate::ini::{FILE_BYTES_MAX, Ini, IniError};
use crate::paths::Paths;
use crate::settings::Settings;

/// The ini of an initialized router.
pub fn read(paths: &Paths) -> Result<Ini, Fatal> {
    read_if_there(paths)?.ok_or_else(|| not_initialized(paths))
}

/// The settings of a router that may be running.
pub fn settings(paths: &Paths) -> Result<Settings, Fatal> {
    Settings::read(&read(paths)?).map_err(|problem| error(&problem))
}

/// None if there is no ini.
pub fn read_if_there(paths: &Paths) -> Result<Option<Ini>, Fatal> {
    let path = paths.ini();
    let mut bytes = Vec::new();
    // One byte more than is allowed tells that there is too much.
    let limit = u64::try_from(FILE_BYTES_MAX).unwrap_or(u64::MAX) + 1;
    match File::open(&path).and_then(|file| file.take(limit).read_to_end(&mut bytes)) {
        Ok(_) => Ini::parse(&path, &bytes).map(Some).map_err(|problem| error(&problem)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => {
            Err(Fatal::new(Reason::FileMissing, format!("cannot read {}: {error}", path.display()))
                .remedy("Run as the user who owns the file, or let its group read it."))
        }
    }
}

pub fn not_initialized(paths: &Paths) -> Fatal {
    let message = format!("the server is not initialized ({} does not exist)", paths.ini().display());
    Fatal::new(Reason::FileMissing, message).remedy("Run `smp-server init`.")
}

/// Something in the ini that cannot be obeyed.
pub fn error(error: &IniError) -> Fatal {
    Fatal::new(Reason::Config, error.to_string())
        .remedy("The table of settings is in docs/operations.md; # in front of a line takes its default.")
}
