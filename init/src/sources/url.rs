// SPDX-License-Identifier: Apache-2.0
//! The URL of a configuration: where it is given, and what of the machine is put into it.

use crate::{arguments, node::Node, platform};
use std::fs;

const LINKS: &str = "/sys/class/net";
/// How NoCloud says where its files are, on the command line or in the serial number.
const NOCLOUD: &str = "ds=nocloud";

/// The URL on the kernel command line, or in the machine's serial number, as hypervisors pass one to NoCloud.
pub(super) fn given() -> Option<String> {
    arguments::given("stele.config=")
        .or_else(|| nocloud(&arguments::given(NOCLOUD)?))
        .or_else(|| nocloud(platform::facts().serial.strip_prefix(NOCLOUD)?))
}

/// Where the user-data is, of what is behind `ds=nocloud`: `-net;i=ID;s=URL` or `;s=URL`.
fn nocloud(words: &str) -> Option<String> {
    let folder = words
        .split(';')
        .find_map(|word| word.strip_prefix("s=").or_else(|| word.strip_prefix("seedfrom=")))?;
    let known = folder.starts_with("http://") || folder.starts_with("https://");
    known.then(|| format!("{}/user-data", folder.trim_end_matches('/')))
}

/// Puts into a URL what it asks for: `${uuid}`, `${serial}`, `${mac}` and `${hostname}`.
pub(super) fn fill(node: &Node, template: &str) -> String {
    let facts = platform::facts();
    let hostname = node.identity.borrow().hostname.clone();
    let values =
        [("uuid", facts.uuid), ("serial", facts.serial), ("mac", mac()), ("hostname", hostname)];
    filled(template, &values)
}

fn filled(template: &str, values: &[(&str, String)]) -> String {
    values.iter().fold(template.to_owned(), |url, (name, value)| {
        url.replace(&format!("${{{name}}}"), &encoded(value))
    })
}

/// Percent-encodes all that means something in a URL (RFC 3986, 2.3), but the colons of hardware addresses.
fn encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b':' => {
                encoded.push(char::from(byte));
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

/// The hardware address of the first link that has a device behind it.
fn mac() -> String {
    let links = fs::read_dir(LINKS).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut links: Vec<_> = links.filter(|link| link.join("device").exists()).collect();
    links.sort();
    let read = links.first().map(|link| fs::read_to_string(link.join("address")));
    read.and_then(Result::ok).unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_url_asks_for_is_put_in() {
        let values = [("mac", "52:54:00:12:34:56".to_owned()), ("serial", "a b/${mac}".to_owned())];
        let url = "http://10.0.2.2/${mac}/${serial}/${nothing}?$1";
        assert_eq!(
            filled(url, &values),
            "http://10.0.2.2/52:54:00:12:34:56/a%20b%2F%24%7Bmac%7D/${nothing}?$1"
        );
    }

    #[test]
    fn nocloud_says_where_its_files_are() {
        let expected = Some("http://10.0.2.2:8000/n1/user-data".to_owned());
        assert_eq!(nocloud(";s=http://10.0.2.2:8000/n1/"), expected);
        assert_eq!(nocloud("-net;i=iid-1;seedfrom=http://10.0.2.2:8000/n1"), expected);
        assert_eq!(nocloud(";s=file:///etc"), None);
        assert_eq!(nocloud(""), None);
    }
}
