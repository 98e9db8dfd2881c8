// SPDX-License-Identifier: Apache-2.0
//! What an attribute of a machine is: texts that its platform says in JSON, and one text that is made of them.

use serde_json::Value;

/// The longest attribute.
pub(crate) const LONGEST: usize = 400;

/// What a pointer leads to, as `stele_platform::Metadata` has them.
pub(crate) fn select<'a>(value: &'a Value, pointer: &str) -> Vec<&'a Value> {
    pointer.split('/').skip(1).fold(vec![value], |found, token| match token.strip_prefix('*') {
        None => found.into_iter().filter_map(|it| it.pointer(&format!("/{token}"))).collect(),
        Some(condition) => {
            found.into_iter().flat_map(each).filter(|it| holds(it, condition)).collect()
        }
    })
}

fn each(value: &Value) -> Box<dyn Iterator<Item = &Value> + '_> {
    match value {
        Value::Array(values) => Box::new(values.iter()),
        Value::Object(members) => Box::new(members.values()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            Box::new(std::iter::empty())
        }
    }
}

/// Whether `KEY=VALUE` is so; nothing always is.
fn holds(value: &Value, condition: &str) -> bool {
    let Some((key, wanted)) = condition.split_once('=') else { return true };
    match value.get(key) {
        Some(Value::String(text)) => text == wanted,
        Some(Value::Bool(bool)) => bool.to_string() == wanted,
        Some(Value::Null | Value::Number(_) | Value::Array(_) | Value::Object(_)) | None => false,
    }
}

/// The texts in a value: itself, each in a list, and in an object `KEY=VALUE` for each.
pub(crate) fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => shown(text).into_iter().collect(),
        Value::Number(number) => vec![number.to_string()],
        Value::Array(values) => values.iter().flat_map(texts).collect(),
        Value::Object(members) => members
            .iter()
            .flat_map(|(key, value)| {
                let key = shown(key).unwrap_or_default();
                texts(value).into_iter().map(move |text| format!("{key}={text}"))
            })
            .collect(),
        Value::Null | Value::Bool(_) => Vec::new(),
    }
}

/// A text without what can't be shown, if anything is left.
pub(crate) fn shown(text: &str) -> Option<String> {
    let text: String = text.trim().chars().filter(|char| !char.is_control()).collect();
    (!text.is_empty()).then_some(text)
}

/// Texts as one attribute, each once.
pub(crate) fn join(texts: Vec<String>) -> Option<String> {
    let mut all: Vec<String> = Vec::new();
    for text in texts {
        if !all.contains(&text) {
            all.push(text);
        }
    }
    shown(&all.join(", ")).map(|text| text.chars().take(LONGEST).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn pointers_lead_to_one_or_to_many() {
        let value = json!({
            "id": 7,
            "addresses": [
                {"public": true, "kind": "public", "address": "192.0.2.1"},
                {"public": false, "kind": "private", "address": "10.0.0.1"},
                {"public": true, "kind": "public", "address": "2001:db8::1"},
                {"address": "10.0.0.2"},
            ],
            "tags": ["a", "", "b", null],
            "meta": {"role": "web", "rack": 4, "on": true, "more": {"x": "y"}},
        });
        let said = |pointer| join(select(&value, pointer).into_iter().flat_map(texts).collect());
        for (pointer, expected) in [
            ("/id", "7"),
            ("/addresses/0/address", "192.0.2.1"),
            ("/addresses/*/address", "192.0.2.1, 10.0.0.1, 2001:db8::1, 10.0.0.2"),
            ("/addresses/*public=true/address", "192.0.2.1, 2001:db8::1"),
            ("/addresses/*kind=private/address", "10.0.0.1"),
            ("/tags", "a, b"),
            ("/meta", "more=x=y, rack=4, role=web"),
        ] {
            assert_eq!(said(pointer).as_deref(), Some(expected), "{pointer}");
        }
        for nothing in ["/x", "/id/*", "/addresses/9", "/addresses/*kind=x/address", "/meta/on"] {
            assert_eq!(said(nothing), None, "{nothing}");
        }
        assert_eq!(select(&value, ""), [&value]);
    }

    #[test]
    fn an_attribute_has_each_text_once_and_not_too_many() {
        let texts = |texts: &[&str]| join(texts.iter().map(|text| (*text).to_owned()).collect());
        assert_eq!(texts(&["a", "b", "a"]).as_deref(), Some("a, b"));
        assert_eq!(texts(&[]), None);
        assert_eq!(texts(&["x".repeat(LONGEST).as_str(), "y"]).map(|it| it.len()), Some(LONGEST));
        assert_eq!(shown(" a\n\u{7}b "), Some("ab".to_owned()));
    }
}
