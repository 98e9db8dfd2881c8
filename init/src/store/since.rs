// SPDX-License-Identifier: Apache-2.0
//! Since when a resource has been in its state, for kinds whose writers do not keep that themselves.

use super::{Kind, text};
use serde_json::Value;
use std::time::Duration;

/// What it is called in a status: seconds after boot.
const SINCE: &str = "since";

/// Notes in a status when its state began: with the one before, or now.
pub(super) fn note(
    kind: Kind,
    before: Option<&Value>,
    status: &mut Value,
    now: impl FnOnce() -> Duration,
) {
    if !matches!(kind, Kind::Files | Kind::LogSink | Kind::Metrics | Kind::Resolver) {
        return;
    }
    let state = text(status, "state");
    let same = before.filter(|before| text(before, "state") == state);
    let since = same.and_then(|before| before.get(SINCE)).cloned();
    if let Value::Object(fields) = status {
        fields.insert(SINCE.to_owned(), since.unwrap_or_else(|| now().as_secs_f64().into()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_state_begins_once() {
        let mut before = None;
        let mut noted = |kind, state: &str, sent: u32, now: u64| {
            let mut status = json!({"state": state, "sent": sent});
            note(kind, before.as_ref(), &mut status, || Duration::from_secs(now));
            before = Some(status.clone());
            status.get(SINCE).and_then(Value::as_f64)
        };
        assert_eq!(noted(Kind::LogSink, "waiting", 0, 5), Some(5.0));
        assert_eq!(noted(Kind::LogSink, "connected", 1, 7), Some(7.0));
        assert_eq!(noted(Kind::LogSink, "connected", 9, 9), Some(7.0));
        assert_eq!(noted(Kind::LogSink, "waiting", 9, 11), Some(11.0));
        // Others say so themselves, or have nothing to say.
        assert_eq!(noted(Kind::Link, "ready", 0, 12), None);
    }
}
