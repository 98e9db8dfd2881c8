// SPDX-License-Identifier: Apache-2.0
//! The table in docs/platforms.md, from the platforms themselves. `UPDATE=1` renews it.

use std::{fs, path::Path};
use stele_platform::{ALL, CheckIn, Metadata, Platform, Server, Sign};

const BEGIN: &str =
    "<!-- Generated from init/platform; `UPDATE=1 cargo test -p stele-platform` renews it. -->\n";
const END: &str = "<!-- End of what is generated. -->\n";

#[test]
fn docs_platforms_md_is_what_the_image_knows() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/platforms.md");
    let text = fs::read_to_string(&path).expect("docs/platforms.md");
    let (before, rest) = text.split_once(BEGIN).expect("where the table begins");
    let (_old, behind) = rest.split_once(END).expect("where the table ends");
    let renewed = format!("{before}{BEGIN}{}{END}{behind}", table());
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&path, renewed).expect("it can be written");
    } else {
        assert!(text == renewed, "UPDATE=1 renews docs/platforms.md");
    }
}

fn table() -> String {
    let mut all = ALL;
    all.sort_by_key(|platform| platform.name);
    let rows: String = all.iter().map(row).collect();
    format!(
        "\n| name | known by | asked | describes the network | knows | is told | time |\n|---|---|---|---|---|---|---|\n{rows}\n"
    )
}

fn row(platform: &Platform) -> String {
    let Platform { name, signs, metadata, channel, time_servers } = platform;
    let known: Vec<String> = signs.iter().map(|signs| together(signs)).collect();
    let known = if known.is_empty() { "`stele.platform=`".to_owned() } else { known.join("; ") };
    let asked = match (metadata, channel) {
        (Some(metadata), _) => asked(metadata),
        (None, Some(channel)) => format!("its hypervisor (`{}`)", channel.name),
        (None, None) => String::new(),
    };
    let network = metadata.is_some_and(|metadata| metadata.network.is_some());
    let mut knows: Vec<&str> = Vec::new();
    for (attribute, _) in metadata.iter().flat_map(|metadata| metadata.attributes) {
        if !knows.contains(&attribute.key()) {
            knows.push(attribute.key());
        }
    }
    let told = match metadata.as_ref().and_then(|metadata| metadata.check_in) {
        Some(CheckIn::Wireserver { .. }) => "ready",
        Some(CheckIn::Send { .. }) => "booted",
        Some(CheckIn::PhoneHome { .. }) => "phone home",
        None => "",
    };
    let network = if network { "yes" } else { "" };
    let (knows, time) = (knows.join(", "), time_servers.join(", "));
    format!("| {name} | {known} | {asked} | {network} | {knows} | {told} | {time} |\n")
}

fn together(signs: &[Sign]) -> String {
    let words: Vec<String> = signs.iter().map(|sign| sign.in_words()).collect();
    words.join(" and ")
}

/// Where its service is.
fn asked(metadata: &Metadata) -> String {
    let server = match metadata.server {
        Server::At(server) => format!("`{server}`"),
        Server::Dhcp(server) => format!("the DHCP server, or `{server}`"),
    };
    let ipv6 = metadata.ipv6.map(|server| format!(", `{server}`")).unwrap_or_default();
    format!("{server}{ipv6}")
}
