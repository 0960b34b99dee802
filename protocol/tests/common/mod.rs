//! Helpers of all tests that read recorded vectors.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

use serde_json::Value;
use sha2::{Digest, Sha256};

/// Parses a file of `shared/vectors`.
pub fn load(file: &str) -> Value {
    let path = format!("{}/../../shared/vectors/{file}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    serde_json::from_str(&text).unwrap()
}

/// The bytes of a lower-case hex string in a vector.
pub fn hex(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap_or_else(|| panic!("not a string: {value}"))).unwrap()
}

/// Like [`hex`], but None for `null`.
pub fn maybe_hex(value: &Value) -> Option<Vec<u8>> {
    (!value.is_null()).then(|| hex(value))
}

/// The items of a JSON array. An empty group would make a test that checks nothing.
pub fn items(value: &Value) -> &Vec<Value> {
    let items = value.as_array().expect("an array");
    assert!(!items.is_empty(), "a group without cases");
    items
}

/// The name of a case.
pub fn name(case: &Value) -> &str {
    case["name"].as_str().unwrap()
}

pub fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    let list = value[name].as_array().unwrap_or_else(|| panic!("{name} is no list"));
    assert!(!list.is_empty(), "{name} is empty");
    list
}

pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("not a text: {value}"))
}

pub fn number(value: &Value) -> usize {
    value.as_u64().and_then(|n| n.try_into().ok()).unwrap_or_else(|| panic!("not a number: {value}"))
}

/// Hex, or `{"byte", "len"}`, or `{"hex"}`, or a long value that is one byte repeated (its hash is checked).
pub fn bytes(value: &Value) -> Vec<u8> {
    match value {
        Value::String(text) => hex::decode(text).unwrap_or_else(|error| panic!("{text}: {error}")),
        Value::Object(fields) if fields.contains_key("hex") => bytes(&fields["hex"]),
        Value::Object(fields) if fields.contains_key("byte") => {
            bytes(&fields["byte"]).repeat(number(&fields["len"]))
        }
        Value::Object(fields) if fields.contains_key("sha256") => {
            let repeated = bytes(&fields["first64"])[..1].repeat(number(&fields["len"]));
            assert_bytes(&repeated, value, "a long value must be one byte repeated to be read");
            repeated
        }
        other => panic!("not bytes: {other}"),
    }
}

pub fn array<const N: usize>(value: &Value) -> [u8; N] {
    let bytes = bytes(value);
    bytes.as_slice().try_into().unwrap_or_else(|_| panic!("{} bytes where {N} should be", bytes.len()))
}

/// Compares with hex or with `{"len", "sha256", "first64", "last32"}`.
pub fn assert_bytes(actual: &[u8], expected: &Value, name: &str) {
    let Some(sha256) = expected.get("sha256") else {
        assert_eq!(hex::encode(actual), hex::encode(bytes(expected)), "{name}");
        return;
    };
    assert_eq!(actual.len(), number(&expected["len"]), "{name}");
    assert!(actual.starts_with(&bytes(&expected["first64"])), "{name}: the first 64 bytes");
    assert!(actual.ends_with(&bytes(&expected["last32"])), "{name}: the last 32 bytes");
    assert_eq!(hex::encode(Sha256::digest(actual)), text(sha256), "{name}");
}
