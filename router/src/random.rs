//! Random bytes of the system.

use zeroize::Zeroizing;

use crate::exit::{Fatal, Reason};

pub fn random<const N: usize>() -> Result<Zeroizing<[u8; N]>, Fatal> {
    let mut bytes = Zeroizing::new([0; N]);
    getrandom::fill(bytes.as_mut())
        .map_err(|error| Fatal::new(Reason::Other, format!("the system gives no random numbers: {error}")))?;
    Ok(bytes)
}
