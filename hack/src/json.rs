// SPDX-License-Identifier: Apache-2.0
//! Looking into what `ctl -o json` prints, without knowing how deep a thing lies.

use serde_json::Value;

/// The first value under this key, anywhere, in either spelling: `boot_id` also finds `bootId`.
#[must_use]
pub fn find<'a>(value: &'a Value, key: &str) -> Option<&'a Value> {
    match value {
        Value::Object(map) => map
            .iter()
            .find(|(name, _)| spelled(name) == spelled(key))
            .map(|(_, value)| value)
            .or_else(|| map.values().find_map(|value| find(value, key))),
        Value::Array(values) => values.iter().find_map(|value| find(value, key)),
        _ => None,
    }
}

/// The same as text.
#[must_use]
pub fn text(value: &Value, key: &str) -> Option<String> {
    find(value, key).map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned))
}

/// The same as a number; 64-bit numbers are strings in protobuf's JSON.
#[must_use]
pub fn number(value: &Value, key: &str) -> Option<f64> {
    text(value, key).and_then(|text| text.parse().ok())
}

fn spelled(name: &str) -> String {
    name.chars().filter(|c| *c != '_').flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn either_spelling_is_found_at_any_depth() {
        let value = json!([{"node": "n1", "version": {"bootId": "abc", "boot": "3"}}]);
        assert_eq!(text(&value, "boot_id").as_deref(), Some("abc"));
        assert_eq!(number(&value, "boot"), Some(3.0));
        assert_eq!(find(&value, "nothing"), None);
    }
}
