// SPDX-License-Identifier: Apache-2.0
//! Links as `stele/v1` had them: found by name alone, and with DHCP or without it.

use super::{Dhcp4, Link};
use crate::integer::Integer;
use crate::list::List;
use crate::node::Node;
use crate::record::{Check, record};
use crate::report::Report;
use crate::step::{Lost, Step};
use crate::{Cidr, InterfaceName, Route};

record! {
    /// How one network interface is set up: by DHCP, with fixed addresses, or both.
    pub(crate) struct LinkV1 as "Link" {
        /// The name of the interface. Each has at most one document.
        name: InterfaceName,
        /// The largest packet in bytes. Without it, what DHCP says, or else what the driver has. 1280 is the least that
        /// IPv6 works with.
        mtu: Option<Integer<1280, 9216>>,
        /// Get an IPv4 address, routes and name servers by DHCP.
        dhcp4: bool,
        /// Fixed addresses, IPv4 or IPv6, each with the prefix length of its network.
        addresses: List<Cidr, 0, 64>,
        /// Fixed routes.
        routes: List<Route, 0, 256>,
    }
}

impl Check for LinkV1 {
    fn check(&self, node: &Node, report: &mut Report) {
        super::check_addresses(&self.addresses, node, report);
    }
}

impl Step for LinkV1 {
    type Newer = Link;

    fn forth(self) -> Link {
        let LinkV1 { name, mtu, dhcp4, addresses, routes } = self;
        let dhcp4 = dhcp4.then(Dhcp4::default);
        Link {
            name,
            matched: None,
            mtu,
            dhcp4,
            dhcp6: None,
            router_advertisements: None,
            delegated: None,
            addresses,
            conflict_detection: None,
            routes,
        }
    }

    fn back(newer: &Link) -> Result<LinkV1, Vec<Lost>> {
        let Link {
            name,
            matched,
            mtu,
            dhcp4,
            dhcp6,
            router_advertisements,
            delegated,
            addresses,
            conflict_detection,
            routes,
        } = newer.clone();
        let Dhcp4 {
            metric,
            routes: takes_routes,
            dns,
            search,
            time,
            hostname,
            send_hostname,
            client_id,
        } = dhcp4.clone().unwrap_or_default();
        let documents = "tells a server the name of the document Hostname";
        let lost = [
            (matched.is_some(), "match", "takes the interface of the document's name"),
            (metric.is_some(), "dhcp4.metric", "takes the metric that it chooses"),
            (!takes_routes, "dhcp4.routes", "takes the routes that DHCP brings"),
            (!dns, "dhcp4.dns", "takes the name servers that DHCP brings"),
            (dhcp6.is_some(), "dhcp6", "asks a DHCPv6 server once a router says so"),
            (router_advertisements.is_some(), "routerAdvertisements", "heeds routers"),
            (delegated.is_some(), "delegated", "gets no network of a prefix"),
            (
                conflict_detection == Some(false),
                "conflictDetection",
                "asks for the addresses first",
            ),
            (!time, "dhcp4.time", "takes the time servers that DHCP brings"),
            (search.is_some(), "dhcp4.search", "takes search domains as it does name servers"),
            (hostname.is_some(), "dhcp4.hostname", documents),
            (send_hostname.is_some(), "dhcp4.sendHostname", documents),
            (client_id.is_some(), "dhcp4.clientId", "is known by its hardware address"),
        ];
        let lost: Vec<Lost> = lost
            .into_iter()
            .filter_map(|(lost, key, otherwise)| lost.then_some(Lost { key, otherwise }))
            .collect();
        if !lost.is_empty() {
            return Err(lost);
        }
        Ok(LinkV1 { name, mtu, dhcp4: dhcp4.is_some(), addresses, routes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::Tree;
    use crate::value::{Secrets, Value};
    use proptest::prelude::*;
    use serde_json::json;

    fn read<T: Value>(document: serde_json::Value) -> T {
        let node: Node = serde_json::from_value(document).unwrap();
        let mut report = Report::default();
        let read = T::read(&node, &mut report);
        read.unwrap_or_else(|| panic!("{:?}", report.into_findings()))
    }

    fn common() -> impl Strategy<Value = serde_json::Value> {
        let addresses = prop::collection::btree_set("10\\.[0-9]\\.[0-9]\\.[1-9]/(8|24|32)", 0..4);
        let routes =
            prop::collection::btree_map("10\\.[0-9]\\.0\\.0/16", any::<Option<u32>>(), 0..4);
        ("[a-z]{1,8}[0-9]", prop::option::of(1280..=9216_u32), addresses, routes).prop_map(
            |(name, mtu, addresses, routes)| {
                let mut document = json!({"name": name, "addresses": addresses});
                let route = |(to, metric): (String, Option<u32>)| match metric {
                    Some(metric) => json!({"to": to, "metric": metric}),
                    None => json!({"to": to}),
                };
                document["routes"] = routes.into_iter().map(route).collect();
                if let Some(mtu) = mtu {
                    document["mtu"] = mtu.into();
                }
                document
            },
        )
    }

    fn old() -> impl Strategy<Value = LinkV1> {
        (common(), any::<bool>()).prop_map(|(mut document, dhcp4)| {
            document["dhcp4"] = dhcp4.into();
            read(document)
        })
    }

    fn new() -> impl Strategy<Value = Link> {
        let dhcp4 = (any::<Option<u16>>(), any::<bool>(), any::<bool>(), any::<bool>());
        let told = (any::<Option<bool>>(), any::<bool>(), any::<bool>(), any::<bool>());
        let dhcp4 = (dhcp4, told);
        let mac = prop::option::of("52:54:00(:[0-9a-f]{2}){3}");
        let dhcp6 = prop::option::of(any::<bool>());
        (common(), mac, prop::option::of(dhcp4), dhcp6).prop_map(
            |(mut document, mac, dhcp4, dhcp6)| {
                if let Some(address) = dhcp6 {
                    document["routerAdvertisements"] =
                        if address { "accept" } else { "ignore" }.into();
                    document["dhcp6"] = json!({"address": address});
                }
                if let Some(mac) = mac {
                    document["match"] = json!({"mac": mac});
                }
                if let Some(((metric, routes, dns, time), told)) = dhcp4 {
                    document["dhcp4"] = json!({"routes": routes, "dns": dns, "time": time});
                    if let Some(metric) = metric {
                        document["dhcp4"]["metric"] = metric.into();
                    }
                    let (search, hostname, sends, id) = told;
                    let keys = [
                        (search.is_some(), "search", json!(search)),
                        (hostname, "hostname", json!("node-1")),
                        (sends, "sendHostname", json!(true)),
                        (id, "clientId", json!("duid")),
                    ];
                    for (_, key, value) in keys.into_iter().filter(|(there, ..)| *there) {
                        document["dhcp4"][key] = value;
                    }
                }
                read(document)
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn forth_and_back_is_where_it_was(old in old()) {
            prop_assert_eq!(LinkV1::back(&old.clone().forth()), Ok(old));
        }

        #[test]
        fn back_and_forth_is_where_it_was_or_refused(new in new()) {
            match LinkV1::back(&new) {
                Ok(old) => prop_assert_eq!(old.forth(), new),
                Err(lost) => {
                    // Each of them is there, and says something.
                    let Some(Tree::Map(entries)) = new.write(Secrets::Keep) else { panic!() };
                    let node = Node::new(Tree::Map(entries));
                    for Lost { key, .. } in &lost {
                        let (key, inner) = key.split_once('.').unwrap_or((key, ""));
                        let entry = node.entry(key).unwrap();
                        prop_assert!(inner.is_empty() || entry.value.entry(inner).is_some());
                    }
                    prop_assert!(!lost.is_empty());
                }
            }
        }
    }
}
