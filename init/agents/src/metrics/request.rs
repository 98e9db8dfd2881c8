// SPDX-License-Identifier: Apache-2.0
//! As much of HTTP/1.1 (RFC 9112) as it takes to give one page away.

use std::sync::Arc;

/// The form that is asked for by name.
const OPEN_METRICS: &str = "application/openmetrics-text";

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Head {
    /// The figures, with or without their text.
    Figures { open_metrics: bool, body: bool },
    /// Something that is not there.
    Elsewhere,
    /// Something to be done.
    Otherwise,
    /// No HTTP.
    Nonsense,
}

/// Reads a request once it is whole; what may follow its head is not looked at.
pub(super) fn parse(bytes: &[u8]) -> Option<Head> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let Ok(head) = std::str::from_utf8(bytes.get(..end)?) else { return Some(Head::Nonsense) };
    let mut lines = head.split("\r\n");
    let line: Vec<&str> = lines.next().unwrap_or_default().split(' ').collect();
    let [method, target, "HTTP/1.1" | "HTTP/1.0"] = line.as_slice() else {
        return Some(Head::Nonsense);
    };
    let body = match *method {
        "GET" => true,
        "HEAD" => false,
        _ => return Some(Head::Otherwise),
    };
    // What to be told of is no choice here.
    if target.split('?').next() != Some("/metrics") {
        return Some(Head::Elsewhere);
    }
    let accepted = lines.filter_map(|line| line.split_once(':'));
    let mut accepted = accepted.filter(|(name, _)| name.eq_ignore_ascii_case("accept"));
    let open_metrics = accepted.any(|(_, forms)| forms.contains(OPEN_METRICS));
    Some(Head::Figures { open_metrics, body })
}

/// What is answered.
#[derive(Debug)]
pub(super) struct Answer {
    status: (u16, &'static str),
    form: &'static str,
    text: Arc<str>,
    body: bool,
}

impl Answer {
    /// The figures.
    pub(super) fn page(text: Arc<str>, open_metrics: bool, body: bool) -> Answer {
        let form = match open_metrics {
            true => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            false => "text/plain; version=0.0.4; charset=utf-8",
        };
        Answer { status: (200, "OK"), form, text, body }
    }

    /// No figures.
    pub(super) fn refusal(code: u16, reason: &'static str) -> Answer {
        let form = "text/plain; charset=utf-8";
        Answer { status: (code, reason), form, text: format!("{reason}\n").into(), body: true }
    }

    /// On the wire.
    pub(super) fn encode(&self) -> Vec<u8> {
        let Answer { status: (code, reason), form, text, body } = self;
        let length = text.len();
        let mut answer = format!(
            "HTTP/1.1 {code} {reason}\r\nContent-Type: {form}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
        );
        if *body {
            answer.push_str(text);
        }
        answer.into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_page_can_be_asked_for() {
        let figures = |open_metrics, body| Some(Head::Figures { open_metrics, body });
        for (request, head) in [
            ("GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n", figures(false, true)),
            ("GET /metrics?x=y HTTP/1.0\r\n\r\nmore", figures(false, true)),
            ("HEAD /metrics HTTP/1.1\r\n\r\n", figures(false, false)),
            (
                "GET /metrics HTTP/1.1\r\naccept: application/openmetrics-text;version=1.0.0;q=0.6,*/*;q=0.1\r\n\r\n",
                figures(true, true),
            ),
            ("GET / HTTP/1.1\r\n\r\n", Some(Head::Elsewhere)),
            ("GET /metrics/ HTTP/1.1\r\n\r\n", Some(Head::Elsewhere)),
            ("POST /metrics HTTP/1.1\r\n\r\n", Some(Head::Otherwise)),
            ("GET /metrics HTTP/2\r\n\r\n", Some(Head::Nonsense)),
            ("GET  /metrics HTTP/1.1\r\n\r\n", Some(Head::Nonsense)),
            ("\r\n\r\n", Some(Head::Nonsense)),
            ("GET /metrics HTTP/1.1\r\nHost: a\r\n", None),
            ("", None),
        ] {
            assert_eq!(parse(request.as_bytes()), head, "{request:?}");
        }
        assert_eq!(parse(b"\xff\r\n\r\n"), Some(Head::Nonsense));
    }

    #[test]
    fn an_answer_says_how_long_it_is() {
        let page = Answer::page("a 1\n".into(), false, true).encode();
        let text = String::from_utf8(page).unwrap();
        assert!(text.contains("\r\nContent-Length: 4\r\n") && text.ends_with("\r\n\r\na 1\n"));
        let head = Answer::page("a 1\n".into(), true, false).encode();
        assert!(String::from_utf8(head).unwrap().ends_with("\r\n\r\n"));
    }
}
