//! The beginning of a connection.

use super::Step;
use crate::Outcome;
use crate::world::{Identity, connect};

pub fn handshake() -> Outcome<Step> {
    let identity = Identity::new()?;
    let mut place = 0;
    Ok(Box::new(move |meter| {
        place += 1;
        connect(&identity, place, meter).map(drop)
    }))
}
