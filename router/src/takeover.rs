//! What `start` does where a router of the reference implementation has run: the binary was replaced, and nothing else.

use std::io::Write;

use crate::exit::{Fatal, Reason};
use crate::files::exists;
use crate::migrate::files::{MESSAGES_JOURNAL, MESSAGES_LOG, STORE_LOG};
use crate::migrate::import::{ImportOptions, import};
use crate::paths::{DATA_DIR_VARIABLE, Paths};
use crate::storage;

/// Imports the queues and messages of the reference, if there are any, or does what an earlier import left to do. A router
/// that went on without them would tell their users that they do not exist.
pub fn take_over(paths: &Paths, out: &mut dyn Write, err: &mut dyn Write) -> Result<(), Fatal> {
    let has = |name: &str| exists(&paths.data_dir.join(name));
    if has(STORE_LOG)? || storage::import_is_nearly_done(&paths.data_dir)? {
        let line =
            format!("Taking over the queues and messages of another server in {}", paths.data_dir.display());
        crate::migrate::tell(out, &[line]);
        return import(paths, &ImportOptions::default(), out, err);
    }
    for name in [MESSAGES_LOG, MESSAGES_JOURNAL] {
        if has(name)? {
            let message = format!(
                "{} has messages of another server, but {STORE_LOG}, which has their queues, is not beside it",
                paths.data_dir.join(name).display()
            );
            let remedy = format!(
                "Restore {STORE_LOG}; or move what is there away, or set {DATA_DIR_VARIABLE} to another directory, to \
                 start without those messages."
            );
            return Err(Fatal::new(Reason::Config, message).remedy(remedy));
        }
    }
    Ok(())
}

/// With the store switched off nothing is kept and nothing is read, as in the reference; it is said once more.
pub fn warn_of_unread_state(paths: &Paths) {
    let path = paths.data_dir.join(STORE_LOG);
    if path.exists() {
        tracing::warn!("[STORE_LOG] enable = off: the queues in {} are not there", path.display());
    }
}
