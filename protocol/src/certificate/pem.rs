//! PEM text. Reading is left to the TLS library's types; writing keeps secrets out of freed memory.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

const LINE_CHARACTERS: usize = 64;

/// One PEM section with lines of 64 characters. Wiped when dropped, because it may hold a private key.
pub(super) fn encode(label: &str, der: &[u8]) -> Zeroizing<String> {
    let body = Zeroizing::new(STANDARD.encode(der));
    let lines = body.len().div_ceil(LINE_CHARACTERS);
    // Exact, so that the text never moves and leaves no copy behind.
    let mut text = Zeroizing::new(String::with_capacity(2 * (label.len() + 18) + body.len() + lines));
    text.push_str("-----BEGIN ");
    text.push_str(label);
    text.push_str("-----\n");
    for (index, character) in body.chars().enumerate() {
        if index > 0 && index % LINE_CHARACTERS == 0 {
            text.push('\n');
        }
        text.push(character);
    }
    text.push_str("\n-----END ");
    text.push_str(label);
    text.push_str("-----\n");
    text
}
