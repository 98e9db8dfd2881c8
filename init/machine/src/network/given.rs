// SPDX-License-Identifier: Apache-2.0
//! What others than the configuration say of the network, and how it fits the links that there are.

use super::{Link, desired};
use std::collections::BTreeMap;
use stele_config::{Device, LinkMatch, NetworkDocuments, VirtualLink};

/// Who says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Giver {
    /// The platform. What it does not speak of is as it would be without its word: links that it leaves out get DHCP.
    Platform,
    /// The kernel command line: whoever wrote it meant these links and no others.
    CommandLine,
}

/// What others than the configuration say of the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// Who says it.
    pub by: Giver,
    /// What is said.
    pub documents: NetworkDocuments,
}

/// Which interface each name stands for that no link has. What is decided stays: a link that comes or goes later changes
/// nothing for those that are there, also after the next start.
#[derive(Debug, Default)]
pub struct Fits {
    given: Option<Given>,
    found: BTreeMap<String, LinkMatch>,
    /// What is on the disk of it.
    kept: BTreeMap<String, LinkMatch>,
}

impl Fits {
    /// What an earlier start has decided: a hardware address, or the place of a device that has none, by name.
    #[must_use]
    pub fn restored(kept: &BTreeMap<String, String>) -> Fits {
        let card = |text: &String| match text.parse() {
            Ok(mac) => Some(LinkMatch { mac: Some(mac), path: None, driver: None }),
            Err(_) => Some(LinkMatch { mac: None, path: Some(text.parse().ok()?), driver: None }),
        };
        let found = kept.iter().filter_map(|(name, text)| Some((name.clone(), card(text)?)));
        let found: BTreeMap<_, _> = found.collect();
        Fits { given: None, kept: found.clone(), found }
    }

    /// Whether all cards that names stand for are among these links.
    #[must_use]
    pub fn are_here(&self, links: &[Link]) -> bool {
        self.found.values().all(|found| is_here(found, links))
    }

    /// What is to be kept for the next start, if it is something else than what is kept already.
    pub fn to_be_kept(&mut self) -> Option<BTreeMap<String, String>> {
        if self.found == self.kept {
            return None;
        }
        self.kept.clone_from(&self.found);
        Some(self.found.iter().map(|(name, found)| (name.clone(), found.to_string())).collect())
    }

    /// The same for these links. Platforms name links as udev would, or as the kernel of another system did. Where no link is
    /// called so, and nothing else tells which one is meant, the names stand for the physical links that are left, in the
    /// order of their numbers and of the places of the devices.
    #[must_use]
    pub fn fit(&mut self, given: &Given, links: &[Link]) -> Given {
        if given.by == Giver::CommandLine {
            return given.clone();
        }
        if self.given.as_ref() != Some(given) {
            self.given = Some(given.clone());
            // A card that is gone may have been replaced.
            let open = open(&given.documents, links);
            self.found.retain(|name, found| open.contains(&name.as_str()) && is_here(found, links));
        }
        self.find(&given.documents, links);
        let find =
            |document: &stele_config::Link| self.found.get(document.name().as_str()).cloned();
        Given { by: given.by, documents: given.documents.clone().finding(find) }
    }

    /// Decides for the names of which it is not decided yet.
    fn find(&mut self, documents: &NetworkDocuments, links: &[Link]) {
        let mut names = open(documents, links);
        names.retain(|name| !self.found.contains_key(*name));
        if names.is_empty() {
            return;
        }
        names.sort_by_key(|name| natural(name));
        let taken = |link: &Link| {
            let named =
                documents.links().iter().any(|one| desired::interface(one, links) == link.name);
            let mut parts = documents.virtual_links().iter();
            let part = parts.any(|whole| {
                let mut parts = whole.members().into_iter().chain(whole.parent());
                parts.any(|part| part.as_str() == link.name)
            });
            named || part || self.found.values().any(|found| found.fits(&link.device))
        };
        let free = links.iter().filter(|link| link.physical && !link.backs_another(links));
        let mut free: Vec<&Link> = free.filter(|link| !taken(link)).collect();
        free.sort_by_key(|link| (&link.device.path, link.index));
        let found = names.into_iter().zip(free).map(|(name, link)| {
            let Device { mac, path, .. } = &link.device;
            let path = path.clone().filter(|_| mac.is_none());
            (name.to_owned(), LinkMatch { mac: *mac, path, driver: None })
        });
        self.found.extend(found.collect::<Vec<_>>());
    }
}

fn is_here(found: &LinkMatch, links: &[Link]) -> bool {
    links.iter().any(|link| found.fits(&link.device))
}

/// The names that say nothing of which links are meant.
fn open<'a>(documents: &'a NetworkDocuments, links: &[Link]) -> Vec<&'a str> {
    let is_made = |name: &str| {
        let mut made = documents.virtual_links().iter().flat_map(VirtualLink::makes);
        made.any(|made| made.as_str() == name)
    };
    let unmatched = documents.links().iter().filter(|document| document.matched().is_none());
    unmatched
        .map(|document| document.name().as_str())
        .filter(|name| !is_made(name) && links.iter().all(|link| link.name != *name))
        .collect()
}

/// A name in words and numbers, by which `ens10` is behind `ens9`.
fn natural(name: &str) -> Vec<(&str, u64)> {
    let (mut parts, mut rest) = (Vec::new(), name);
    while !rest.is_empty() {
        let word = rest.find(|char: char| char.is_ascii_digit()).unwrap_or(rest.len());
        let (word, behind) = rest.split_at(word);
        let number = behind.find(|char: char| !char.is_ascii_digit()).unwrap_or(behind.len());
        let (number, behind) = behind.split_at(number);
        parts.push((word, number.parse().unwrap_or_default()));
        rest = behind;
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::{Link, desired::Desired, fixture, wanted::Wanted};
    use std::collections::BTreeMap;
    use stele_config::{Device, canonical};

    fn card(index: u32, name: &str, path: &str) -> Link {
        let mac = [0x52, 0x54, 0, 0, 0, index as u8];
        let path = Some(path.parse().expect("a path"));
        let device = Device { mac: Some(mac.into()), path, driver: None };
        Link { mac: Some(mac), device, physical: true, ..fixture::link(index, name) }
    }

    fn given(by: Giver, documents: &str) -> Given {
        Given { by, documents: canonical::read_network(documents.as_bytes()).expect("documents") }
    }

    /// The links that are set up, by what document, and whether by DHCP.
    fn set_up(given: &Given, links: &[Link]) -> Vec<(String, String, bool)> {
        let fitted = Fits::default().fit(given, links);
        let wanted = Wanted { config: None, given: Some(&fitted) };
        let desired = Desired::derive(wanted, &BTreeMap::new(), links);
        let all = desired.links.into_iter();
        all.map(|(name, link)| (name, link.document, link.dhcp4.is_some())).collect()
    }

    fn is(name: &str, document: &str, dhcp: bool) -> (String, String, bool) {
        (name.to_owned(), document.to_owned(), dhcp)
    }

    const NAMED: &str = r#"[
        {"apiVersion":"stele/v2","kind":"Link","name":"ens192","addresses":["192.0.2.7/24"]},
        {"apiVersion":"stele/v2","kind":"Link","name":"ens224","addresses":["198.51.100.7/24"]}]"#;

    #[test]
    fn names_of_another_system_stand_for_the_links_in_their_order() {
        // The kernel has found the second card first.
        let links = [card(2, "eth0", "pci-0000:0b:00.0"), card(3, "eth1", "pci-0000:03:00.0")];
        let platform = given(Giver::Platform, NAMED);
        let expected = [is("eth0", "ens224", false), is("eth1", "ens192", false)];
        assert_eq!(set_up(&platform, &links), expected);
        // Names that are there, and links that are told apart otherwise, are what they say.
        let here = [card(2, "ens224", "pci-0000:0b:00.0"), card(3, "eth1", "pci-0000:03:00.0")];
        let expected = [is("ens224", "ens224", false), is("eth1", "ens192", false)];
        assert_eq!(set_up(&platform, &here), expected);
    }

    #[test]
    fn numbers_are_in_the_order_of_numbers_and_what_is_decided_stays() {
        let documents = r#"[
            {"apiVersion":"stele/v2","kind":"Link","name":"ens9","addresses":["192.0.2.9/24"]},
            {"apiVersion":"stele/v2","kind":"Link","name":"ens10","addresses":["192.0.2.10/24"]}]"#;
        let platform = given(Giver::Platform, documents);
        let mut links =
            vec![card(2, "eth0", "pci-0000:00:0a.0"), card(3, "eth1", "pci-0000:00:09.0")];
        let mut fits = Fits::default();
        let mut names = |links: &[Link]| {
            let fitted = fits.fit(&platform, links);
            let documents = fitted.documents.links().iter();
            let mut names: Vec<_> = documents
                .map(|one| format!("{} {}", one.name(), desired::interface(one, links)))
                .collect();
            names.sort();
            names
        };
        assert_eq!(names(&links), ["ens10 eth0", "ens9 eth1"]);
        // Another card, before them, and then one of them less.
        links.push(card(4, "eth2", "pci-0000:00:04.0"));
        assert_eq!(names(&links), ["ens10 eth0", "ens9 eth1"]);
        links.remove(1);
        assert_eq!(names(&links)[0], "ens10 eth0");
    }

    #[test]
    fn what_is_decided_stays_over_starts_as_long_as_the_card_is_there() {
        let platform = given(Giver::Platform, NAMED);
        let nameless = |index, path| {
            let card = card(index, "eth9", path);
            Link { mac: None, device: Device { mac: None, ..card.device.clone() }, ..card }
        };
        let links = [card(2, "eth0", "pci-0000:0b:00.0"), nameless(3, "pci-0000:0c:00.0")];
        let mut fits = Fits::default();
        let _fitted = fits.fit(&platform, &links);
        let kept = fits.to_be_kept().expect("it is news");
        let expected = [("ens192", "52:54:00:00:00:02"), ("ens224", "pci-0000:0c:00.0")];
        assert_eq!(kept, expected.map(|(name, card)| (name.to_owned(), card.to_owned())).into());
        assert_eq!(fits.to_be_kept(), None);
        assert!(Fits::restored(&kept).are_here(&links));
        assert!(!Fits::restored(&kept).are_here(&links[1..]), "one has not come yet");
        // A card was put in before them.
        let start = |links: &[Link]| {
            let mut fits = Fits::restored(&kept);
            let _fitted = fits.fit(&platform, links);
            fits.to_be_kept()
        };
        let [first, second] = links;
        let new = card(4, "eth2", "pci-0000:03:00.0");
        assert_eq!(start(&[new.clone(), first, second.clone()]), None);
        // One was replaced.
        let found = start(&[new, second]).expect("it is news");
        assert_eq!(found["ens192"], "52:54:00:00:00:04");
        // Links of the command line are others, and what was decided counts again at the next start without them.
        let said = given(Giver::CommandLine, NAMED);
        let mut fits = Fits::restored(&kept);
        assert_eq!(fits.fit(&said, &[]), said);
        assert_eq!(fits.to_be_kept(), None);
    }

    #[test]
    fn links_that_a_platform_leaves_out_get_dhcp_and_those_of_the_command_line_stay_down() {
        let eth0 = r#"[{"apiVersion":"stele/v2","kind":"Link","name":"eth0","addresses":["192.0.2.7/24"]}]"#;
        let links = [card(2, "eth0", "pci-0000:00:03.0"), card(3, "eth1", "pci-0000:00:04.0")];
        let expected = [is("eth0", "eth0", false), is("eth1", "", true)];
        assert_eq!(set_up(&given(Giver::Platform, eth0), &links), expected);
        assert_eq!(set_up(&given(Giver::CommandLine, eth0), &links), expected[..1]);
        // More names than links.
        let platform = given(Giver::Platform, NAMED);
        let expected = [is("ens224", "ens224", false), is("eth0", "ens192", false)];
        assert_eq!(set_up(&platform, &links[..1]), expected);
    }

    #[test]
    fn what_is_in_a_bond_of_the_platform_is_its_own_and_gets_no_dhcp() {
        let bond = r#"[
            {"apiVersion":"stele/v1","kind":"Bond","name":"bond0","links":["enp1s0","eth1"],"mode":"active-backup"},
            {"apiVersion":"stele/v2","kind":"Link","name":"bond0","addresses":["192.0.2.7/24"]},
            {"apiVersion":"stele/v2","kind":"Link","name":"enp1s0"}]"#;
        let links = [card(2, "eth0", "pci-0000:00:03.0"), card(3, "eth1", "pci-0000:00:04.0")];
        let expected =
            [is("bond0", "bond0", false), is("eth0", "enp1s0", false), is("eth1", "", false)];
        assert_eq!(set_up(&given(Giver::Platform, bond), &links), expected);
    }

    #[test]
    fn a_virtual_function_below_a_card_of_the_same_address_is_left_to_it() {
        let card = card(2, "eth0", "pci-0000:00:03.0");
        let below = Link { index: 3, name: "eth1".to_owned(), master: Some(2), ..card.clone() };
        let links = [below, card];
        let desired = Desired::derive(Wanted::default(), &BTreeMap::new(), &links);
        assert_eq!(desired.links.keys().collect::<Vec<_>>(), ["eth0"]);
        let named = r#"[{"apiVersion":"stele/v2","kind":"Link","name":"ens1","match":{"mac":"52:54:00:00:00:02"}}]"#;
        assert_eq!(set_up(&given(Giver::Platform, named), &links), [is("eth0", "ens1", false)]);
    }
}
