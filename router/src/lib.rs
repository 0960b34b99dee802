//! The `SimpleX` routers: command line, configuration, identity files, start and stop.
//!
//! | module | what it does |
//! |---|---|
//! | [`ini`] | reads ini files and remembers the lines |
//! | [`settings`] | what an ini asks for, as types; which keys there are |
//! | [`paths`] | where the files are |
//! | [`exit`] | why a process ends: codes and messages |

pub mod exit;
pub mod ini;
pub mod paths;
pub mod settings;
