// SPDX-License-Identifier: Apache-2.0
//! The URL of a configuration: where it is given, and what of the machine is put into it.

use crate::{
    arguments,
    node::Node,
    platform::{self, HOSTNAME, INSTANCE},
};
use std::{collections::BTreeMap, fs};

const LINKS: &str = "/sys/class/net";
/// How NoCloud says where its files are, on the command line or in the serial number.
const NOCLOUD: &str = "ds=nocloud";

/// What NoCloud may ask for of the firmware, in cloud-init's words (`__dmi.WORD__`), and the files that say it.
const DMI: [(&str, &str); 7] = [
    ("baseboard-serial-number", "board_serial"),
    ("chassis-asset-tag", "chassis_asset_tag"),
    ("chassis-serial-number", "chassis_serial"),
    ("system-manufacturer", "sys_vendor"),
    ("system-product-name", "product_name"),
    ("system-serial-number", "product_serial"),
    ("system-uuid", "product_uuid"),
];

/// Where a configuration is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// At a URL.
    File(String),
    /// In a folder of NoCloud's, with what the machine is told beside it, which goes before what is there.
    Folder(String, BTreeMap<String, String>),
}

/// The place on the kernel command line, or in the machine's serial number, as hypervisors pass one to NoCloud.
pub(super) fn given() -> Option<Place> {
    arguments::given("stele.config=")
        .map(Place::File)
        .or_else(|| nocloud(&arguments::given(NOCLOUD)?))
        .or_else(|| nocloud(platform::facts().serial.strip_prefix(NOCLOUD)?))
}

/// What is behind `ds=nocloud`, `-net;i=ID;h=NAME;s=URL` or `;s=URL`, in cloud-init's words:
/// <https://docs.cloud-init.io/en/latest/reference/datasources/nocloud.html>.
fn nocloud(words: &str) -> Option<Place> {
    let (mut folder, mut attributes) = (None, BTreeMap::new());
    for (key, value) in words.split(';').filter_map(|word| word.split_once('=')) {
        match key {
            "s" | "seedfrom" => folder = Some(value),
            "i" | "instance-id" => drop(attributes.insert(INSTANCE.to_owned(), value.to_owned())),
            "h" | "local-hostname" => {
                drop(attributes.insert(HOSTNAME.to_owned(), value.to_owned()));
            }
            _ => {}
        }
    }
    let folder = folder?;
    let known = folder.starts_with("http://") || folder.starts_with("https://");
    known.then(|| Place::Folder(folder.trim_end_matches('/').to_owned(), attributes))
}

/// Puts into a URL what it asks for: `${uuid}`, `${serial}`, `${mac}` and `${hostname}`, and what the firmware says in NoCloud's
/// words.
pub(super) fn fill(node: &Node, template: &str) -> String {
    let facts = platform::facts();
    let hostname = node.identity.borrow().hostname.clone();
    let values =
        [("uuid", facts.uuid), ("serial", facts.serial), ("mac", mac()), ("hostname", hostname)];
    let ours = values.map(|(name, value)| (format!("${{{name}}}"), value));
    let of_firmware = DMI.map(|(word, file)| (format!("__dmi.{word}__"), platform::dmi(file)));
    filled(template, ours.iter().chain(&of_firmware))
}

fn filled<'a>(template: &str, values: impl IntoIterator<Item = &'a (String, String)>) -> String {
    values
        .into_iter()
        .fold(template.to_owned(), |url, (word, value)| url.replace(word, &encoded(value)))
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
        let values = [
            ("${mac}", "52:54:00:12:34:56"),
            ("${serial}", "a b/${mac}"),
            ("__dmi.system-uuid__", "4c4c4544-0051"),
        ];
        let values = values.map(|(word, value)| (word.to_owned(), value.to_owned()));
        let url = "http://10.0.2.2/${mac}/${serial}/${nothing}?$1&__dmi.system-uuid__";
        assert_eq!(
            filled(url, &values),
            "http://10.0.2.2/52:54:00:12:34:56/a%20b%2F%24%7Bmac%7D/${nothing}?$1&4c4c4544-0051"
        );
    }

    #[test]
    fn nocloud_says_where_its_files_are_and_what_the_machine_is() {
        let place = |attributes: &[(&str, &str)]| {
            let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
            let folder = "http://10.0.2.2:8000/n1".to_owned();
            Some(Place::Folder(folder, attributes.iter().map(owned).collect()))
        };
        assert_eq!(nocloud(";s=http://10.0.2.2:8000/n1/"), place(&[]));
        let named = [("instanceId", "iid-1"), ("hostname", "web")];
        assert_eq!(nocloud("-net;i=iid-1;h=web;seedfrom=http://10.0.2.2:8000/n1"), place(&named));
        let long = ";s=http://10.0.2.2:8000/n1;local-hostname=web;instance-id=iid-1;x=y;z";
        assert_eq!(nocloud(long), place(&named));
        assert_eq!(nocloud(";s=file:///etc"), None);
        assert_eq!(nocloud(";h=web"), None);
        assert_eq!(nocloud(""), None);
    }
}
