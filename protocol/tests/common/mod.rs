//! Helpers of all tests that read recorded vectors.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

use serde_json::Value;

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
