// SPDX-License-Identifier: Apache-2.0
//! VMware's hypervisor, as far as it keeps `guestinfo`: what <https://sites.google.com/site/chitchatvmback/backdoor> says of
//! its steps. It is strict with who asks: what makes no sense fails.

use std::collections::{BTreeMap, VecDeque};

/// Kind or status, channel, value, cookies.
pub(crate) type Step = (u16, u16, u32, [u32; 2]);

const PROTOCOL: u32 = 0xc943_5052;
const COOKIES: [u32; 2] = [0x1234_5678, 0x9abc_def0];
const FAILED: Step = (0, 0, 0, [0; 2]);

/// What it keeps, and the conversation that is under way.
#[derive(Debug, Default)]
pub(crate) struct Hypervisor {
    /// The keys, without `guestinfo.`.
    pub(crate) values: BTreeMap<String, String>,
    /// How many channels were opened.
    pub(crate) opened: u16,
    open: bool,
    expected: usize,
    request: Vec<u8>,
    answer: VecDeque<u8>,
    answered: bool,
}

impl Hypervisor {
    /// One that keeps these.
    pub(crate) fn with(values: &[(&str, &str)]) -> Self {
        let values = values.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        Self { values: values.collect(), ..Self::default() }
    }

    /// Answers a step.
    pub(crate) fn step(&mut self, (kind, channel, value, cookies): Step) -> Step {
        if kind == 0 {
            return self.open(value);
        }
        if !self.open || channel != self.opened || cookies != COOKIES {
            return FAILED;
        }
        let (status, said) = match kind {
            1 => {
                self.expected = value.try_into().unwrap_or(usize::MAX);
                self.request.clear();
                (1, 0)
            }
            2 if self.request.len() < self.expected => {
                self.request.extend(value.to_le_bytes());
                self.request.truncate(self.expected);
                (1, 0)
            }
            3 if self.request.len() == self.expected => {
                self.answer = self.answer_to().into();
                (3, u32::try_from(self.answer.len()).unwrap_or(u32::MAX))
            }
            4 if value == 1 && !self.answer.is_empty() => {
                let mut word = [0; 4];
                let count = self.answer.len().min(4);
                word.iter_mut().zip(self.answer.drain(..count)).for_each(|(to, byte)| *to = byte);
                self.answered = self.answer.is_empty();
                (1, u32::from_le_bytes(word))
            }
            5 if value == 1 && self.answered => (1, 0),
            6 => {
                self.open = false;
                (1, 0)
            }
            _ => (0, 0),
        };
        (status, 0, said, cookies)
    }

    fn open(&mut self, protocol: u32) -> Step {
        if self.open || protocol != PROTOCOL {
            return FAILED;
        }
        self.open = true;
        self.answered = false;
        self.opened += 1;
        (1, self.opened, 0, COOKIES)
    }

    fn answer_to(&mut self) -> Vec<u8> {
        let request = String::from_utf8_lossy(&self.request).into_owned();
        let answer = if let Some(key) = request.strip_prefix("info-get guestinfo.") {
            let value = self.values.get(key);
            value.map_or_else(|| "0 No value found".to_owned(), |value| format!("1 {value}"))
        } else if let Some((key, value)) =
            request.strip_prefix("info-set guestinfo.").and_then(|rest| rest.split_once(' '))
        {
            self.values.insert(key.to_owned(), value.to_owned());
            "1 ".to_owned()
        } else {
            "0 Unknown command".to_owned()
        };
        answer.into_bytes()
    }
}
