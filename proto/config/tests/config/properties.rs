// SPDX-License-Identifier: Apache-2.0
//! What holds for every input. `PROPTEST_CASES` makes the search longer.

use crate::pki::{self, Pki};
use proptest::prelude::*;
use std::net::IpAddr;
use std::sync::LazyLock;
use stele_config::{Cidr, canonical, newest_version, schema, yaml};

static PKI: LazyLock<Pki> = LazyLock::new(|| pki::make("authority"));
static SCHEMA: LazyLock<jsonschema::Validator> =
    LazyLock::new(|| jsonschema::validator_for(&schema::json()).unwrap());

fn address() -> impl Strategy<Value = IpAddr> {
    // Neither unspecified nor multicast.
    prop_oneof![
        (1..0xe000_0000_u32).prop_map(|bits| IpAddr::from(bits.to_be_bytes())),
        (1..0xff00_u128 << 112).prop_map(|bits| IpAddr::from(bits.to_be_bytes())),
    ]
}

fn cidr() -> impl Strategy<Value = Cidr> {
    address().prop_flat_map(|address| {
        (0..=if address.is_ipv4() { 32u8 } else { 128 })
            .prop_map(move |prefix| Cidr::new(address, prefix).unwrap())
    })
}

fn route() -> impl Strategy<Value = String> {
    (cidr(), address(), any::<bool>(), any::<Option<u32>>()).prop_map(
        |(to, via, direct, metric)| {
            let via = if direct || via.is_ipv4() != to.address().is_ipv4() {
                String::new()
            } else {
                format!(", via: \"{via}\"")
            };
            let metric = metric.map(|metric| format!(", metric: {metric}")).unwrap_or_default();
            format!("{{to: \"{}\"{via}{metric}}}", to.network())
        },
    )
}

fn link() -> impl Strategy<Value = String> {
    let name = "[!-$&-.0-9;-~]{3,15}".prop_filter("quoted with '", |name| !name.contains('\''));
    let lists =
        (prop::collection::hash_set(cidr(), 0..4), prop::collection::hash_set(route(), 0..1));
    let dhcp4 = prop_oneof![
        any::<bool>().prop_map(|dhcp4| format!("apiVersion: stele/v1\ndhcp4: {dhcp4}\n")),
        Just("apiVersion: stele/v2\n".to_owned()),
        (any::<bool>(), any::<bool>(), any::<u32>(), "52:54:00(:[0-9a-fA-F]{2}){3}").prop_map(
            |(dns, matched, metric, mac)| {
                let matched =
                    if matched { format!("match: {{mac: '{mac}'}}\n") } else { String::new() };
                let metric = if metric > 7 { format!(", metric: {metric}") } else { String::new() };
                format!("apiVersion: stele/v2\n{matched}dhcp4: {{dns: {dns}{metric}}}\n")
            }
        ),
    ];
    (name, dhcp4, prop::option::of(1280..=9216_u32), lists).prop_map(
        |(name, dhcp4, mtu, (addresses, routes))| {
            let mtu = mtu.map(|mtu| format!("mtu: {mtu}\n")).unwrap_or_default();
            let addresses: String =
                addresses.iter().map(|address| format!("- {address}\n")).collect();
            let addresses = if addresses.is_empty() {
                String::new()
            } else {
                format!("addresses:\n{addresses}")
            };
            let routes: Vec<_> = routes.into_iter().collect();
            let routes = routes.join(",\n  ");
            format!("kind: Link\n{dhcp4}name: '{name}'\n{mtu}{addresses}routes: [{routes}]\n")
        },
    )
}

fn health_check() -> impl Strategy<Value = String> {
    let probe = prop_oneof![
        (address(), 1..=u16::MAX).prop_map(|(address, port)| {
            format!("tcp: {{address: \"{}\"}}", std::net::SocketAddr::new(address, port))
        }),
        ("[a-z]{1,8}", "[!-~&&[^\"<>\\\\^`{|}#]]{0,8}", 100..=599_u32).prop_map(
            |(host, path, status)| {
                format!("http: {{url: \"https://{host}/{path}\", status: {status}}}")
            }
        ),
        ("[a-z]{1,8}\\.[a-z]{1,8}", address())
            .prop_map(|(name, server)| format!("dns: {{name: {name}, server: \"{server}\"}}")),
        ("[0-9A-Za-z][0-9A-Za-z._-]{0,62}", 1..=3600_u32).prop_map(|(name, seconds)| format!(
            "service: {{name: '{name}', stableFor: {seconds}s}}"
        )),
    ];
    let probe = prop_oneof![probe, Just("clock: {}".to_owned()), Just("probe: gate".to_owned())];
    let name = "[0-9A-Za-z][0-9A-Za-z._-]{0,62}";
    (name, any::<bool>(), 1..=60_u32, 1..=100_u32, probe).prop_map(|(name, wanted, minutes, successes, probe)| {
        let need = if wanted { "need: wanted\n" } else { "" };
        format!("apiVersion: stele/v1\nkind: HealthCheck\nname: '{name}'\n{need}interval: {minutes}m\nsuccesses: {successes}\n{probe}\n")
    })
}

fn probe() -> impl Strategy<Value = String> {
    let host = prop_oneof![
        address()
            .prop_filter("not of one link", |address| match address {
                IpAddr::V4(_) => true,
                IpAddr::V6(address) => !address.is_unicast_link_local(),
            })
            .prop_map(|address| address.to_string()),
        "[a-z]{1,8}\\.[a-z]{1,8}".prop_map(|name| name),
    ];
    (host, 1..=60_u32, 1..=100_u32).prop_map(|(host, minutes, failures)| {
        format!("apiVersion: stele/v1\nkind: Probe\nname: gate\ninterval: {minutes}m\nfailures: {failures}\nicmp: {{address: \"{host}\"}}\n")
    })
}

fn upgrades() -> impl Strategy<Value = String> {
    (10..=600_u32, 10..=3600_u32, prop::option::of("[a-z][0-9a-z.~^-]{0,62}[0-9a-z]")).prop_map(
        |(timeout, deadline, oldest)| {
            let oldest = oldest.map(|oldest| format!("oldest: '{oldest}'\n")).unwrap_or_default();
            format!("apiVersion: stele/v1\nkind: Watchdog\ntimeout: {timeout}s\n---\napiVersion: stele/v1\nkind: UpgradePolicy\ndeadline: {deadline}s\n{oldest}")
        },
    )
}

fn access() -> impl Strategy<Value = String> {
    let role = ("[0-9A-Za-z][0-9A-Za-z._-]{0,62}", "/[a-z.]{1,8}(/[A-Z][a-z]{0,8}|/?\\*)");
    let serials = prop::collection::hash_set("[1-9a-f][0-9a-f]{0,39}", 0..3);
    (role, serials).prop_map(|((name, methods), serials)| {
        let serials: Vec<_> = serials.iter().map(|serial| format!("'{serial}'")).collect();
        let serials = serials.join(", ");
        format!("apiVersion: stele/v1\nkind: ClientAccess\nroles: [{{name: '{name}', methods: ['{methods}']}}]\nrevoked: [{serials}]\n")
    })
}

/// A few of the smaller kinds. Between ' stands any text but that.
fn smaller() -> impl Strategy<Value = String> {
    let text = "[ -&(-~]{0,12}";
    let kernel = ("[a-z]{1,8}\\.[a-z_]{1,8}(/[0-9])?", text, "[0-9A-Za-z_-]{1,8}", "[a-z-]{1,8}=[!#-&(-~]{0,8}")
        .prop_map(|(setting, value, module, parameter)| {
            format!("apiVersion: stele/v1\nkind: Sysctl\nname: 'net.{setting}'\nvalue: '{value}'\n---\napiVersion: stele/v1\nkind: KernelModule\nname: '{module}'\nparameters: ['{parameter}']\n")
        });
    let registry = ("[a-z]{1,8}", 1..=u16::MAX, "[ -&(-9;-~]{1,12}", "[!-&(-~]{1,12}").prop_map(
        |(host, port, user, password)| {
            format!("apiVersion: stele/v1\nkind: RegistryMirror\nname: '{host}:{port}'\nendpoints: ['https://{host}:{port}']\n---\napiVersion: stele/v1\nkind: RegistryAuth\nname: {host}.example\nusername: '{user}'\npassword: '{password}'\n")
        },
    );
    let around = ("[0-9A-Za-z][0-9A-Za-z._-]{0,8}", "[A-Z_][0-9A-Z_]{0,8}", text, "[0-9a-z@+-]{1,8}", "0[0246]{3}")
        .prop_map(|(name, variable, text, file, mode)| {
            format!("apiVersion: stele/v1\nkind: Environment\nname: '{name}'\nservices: ['{name}']\nvariables: ['{variable}={text}']\n---\napiVersion: stele/v1\nkind: Files\nname: '{name}'\nfiles: [{{path: '/etc/opt/{file}', content: '{text}', mode: '{mode}'}}]\n")
        });
    (kernel, registry, around)
        .prop_map(|(kernel, registry, around)| format!("{kernel}---\n{registry}---\n{around}"))
}

/// A good configuration.
fn config() -> impl Strategy<Value = String> {
    let label = "[0-9A-Za-z]([0-9A-Za-z-]{0,8}[0-9A-Za-z])?";
    let hostname = (label, "[a-z]{1,8}").prop_map(|(name, domain)| {
        format!("kind: Hostname\nhostname: '{name}.{domain}'\napiVersion: stele/v1\n")
    });
    let servers = prop::collection::hash_set(address(), 1..=3);
    let search = prop::collection::hash_set("[a-z]{1,8}\\.[a-z]{1,8}", 0..=6);
    let resolver = (servers, search).prop_map(|(servers, search)| {
        let servers: Vec<_> = servers.iter().map(|server| format!("\"{server}\"")).collect();
        let search: Vec<_> = search.into_iter().collect();
        let (servers, search) = (servers.join(", "), search.join(", "));
        format!("apiVersion: stele/v1\nkind: Resolver\nservers: [{servers}]\nsearch: [{search}]\n")
    });
    let links = prop::collection::hash_map("x", link(), 0..2);
    let checks = prop::collection::hash_map("x", health_check(), 0..2);
    let optional =
        (prop::option::of(hostname), prop::option::of(resolver), prop::option::of(upgrades()));
    let optional = (
        (optional, prop::option::of(probe())),
        prop::option::of(access()),
        prop::option::of(smaller()),
    );
    (links, checks, optional).prop_map(
        |(links, checks, (((hostname, resolver, upgrades), probe), access, smaller))| {
            let mut documents = vec![PKI.yaml()];
            documents.extend(hostname);
            documents.extend(links.into_values());
            documents.extend(resolver);
            documents.extend(checks.into_values());
            documents.extend(probe);
            documents.extend(upgrades);
            documents.extend(access);
            documents.extend(smaller);
            documents.reverse();
            documents.join("---\n")
        },
    )
}

/// Pieces of which much nonsense and some sense can be made.
fn nonsense() -> impl Strategy<Value = String> {
    let pieces: Vec<&'static str> = vec![
        "apiVersion: stele/v1\n",
        "kind: Link\n",
        "kind: Hostname\n",
        "kind: Resolver\n",
        "kind: Identity\n",
        "kind: HealthCheck\n",
        "kind: Probe\n",
        "clock: {}\n",
        "icmp: {address: a}\n",
        "kind: UpgradePolicy\n",
        "kind: ClientAccess\n",
        "kind: Metrics\n",
        "kind: LogSink\n",
        "protocol: tls\n",
        "kind: Sysctl\n",
        "kind: Files\n",
        "kind: Environment\n",
        "value: 1.5\n",
        "files: [{path: /etc/opt/a, content: b}]\n",
        "variables: [A=1]\n",
        "address: 0.0.0.0:9100\n",
        "roles: ",
        "revoked: ",
        "tcp: {address: 'a:1'}\n",
        "interval: 1s\n",
        "keys: ",
        "name: eth0\n",
        "hostname: a\n",
        "mtu: 1500\n",
        "dhcp4: true\n",
        "apiVersion: stele/v2\n",
        "dhcp4: {}\n",
        "match: {mac: '52:54:00:12:34:56'}\n",
        "addresses: ",
        "routes: ",
        "servers: ",
        "search:\n",
        "key: |\n",
        "- 192.0.2.1/24\n",
        "- ::1\n",
        "[192.0.2.1]\n",
        "{to: 0.0.0.0/0}\n",
        "---\n",
        "...\n",
        "  ",
        "- ",
        "? ",
        ": ",
        "[",
        "]",
        "{",
        "}",
        ",",
        "&a ",
        "*a",
        "!!str ",
        "<<: ",
        "|",
        ">",
        "'",
        "\"",
        "\\",
        "#",
        "%",
        "@",
        "\n",
        "\r",
        "\t",
        "\0",
        "é",
        "\u{2028}",
        "0x",
        "1e3",
        "null",
        "-----BEGIN CERTIFICATE-----\n",
        "MAA=\n",
        "-----END CERTIFICATE-----\n",
    ];
    let piece = prop_oneof![4 => prop::sample::select(pieces).prop_map(str::to_owned), 1 => any::<String>()];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

/// A good document with one value in it replaced by something.
fn mutated() -> impl Strategy<Value = serde_json::Value> {
    let something = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(serde_json::Value::from),
        any::<i64>().prop_map(serde_json::Value::from),
        (0..10_000_i64).prop_map(serde_json::Value::from),
        any::<f64>().prop_map(serde_json::Value::from),
        "[a-z0-9.:/]{0,12}".prop_map(serde_json::Value::from),
        any::<String>().prop_map(serde_json::Value::from),
        prop::collection::vec("[0-9./]{0,9}", 0..5).prop_map(serde_json::Value::from),
    ];
    (config(), any::<prop::sample::Index>(), any::<prop::sample::Index>(), something).prop_map(
        |(text, document, key, something)| {
            let config = yaml::parse(text.as_bytes()).unwrap();
            let documents: Vec<serde_json::Value> =
                serde_json::from_slice(&canonical::write(&config)).unwrap();
            let mut document = document.get(&documents).clone();
            let keys: Vec<String> =
                document.as_object().unwrap().keys().cloned().chain(["other".to_owned()]).collect();
            document[key.get(&keys)] = something;
            document
        },
    )
}

proptest! {
    // A failing case is no use to the next run: its keys are others.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_have_an_answer(bytes in any::<Vec<u8>>()) {
        prop_assert!(yaml::parse(&bytes).is_err());
        prop_assert!(canonical::read(&bytes).is_err());
        let _ = yaml::print(&bytes);
    }

    #[test]
    fn any_text_has_an_answer(text in nonsense()) {
        let findings = yaml::parse(text.as_bytes()).unwrap_err();
        prop_assert!(!findings.is_empty());
        let lines = u32::try_from(text.split(['\n', '\r']).count()).unwrap() + 1;
        for finding in findings {
            prop_assert!(finding.line <= lines, "{finding}");
            prop_assert!(!finding.to_string().contains('\n'), "{finding}");
        }
    }

    #[test]
    fn print_then_parse_is_identity(text in config()) {
        let config = match yaml::parse(text.as_bytes()) {
            Ok(config) => config,
            Err(findings) => panic!("{findings:#?}\n{text}"),
        };
        let bytes = canonical::write(&config);
        prop_assert_eq!(&canonical::read(&bytes).unwrap(), &config);
        prop_assert_eq!(&yaml::parse(&bytes).unwrap(), &config, "JSON is YAML");
        let printed = yaml::print(&bytes);
        prop_assert_eq!(&yaml::parse(printed.as_bytes()).unwrap(), &config, "{}", printed);
        prop_assert_eq!(canonical::write(&yaml::parse(printed.as_bytes()).unwrap()), bytes);
    }

    #[test]
    fn schema_takes_what_the_reader_takes(text in config()) {
        let bytes = canonical::write(&yaml::parse(text.as_bytes()).unwrap());
        let documents: Vec<serde_json::Value> = serde_json::from_slice(&bytes).unwrap();
        for document in documents {
            prop_assert!(SCHEMA.is_valid(&document), "{}", document);
        }
    }

    #[test]
    fn an_older_version_says_the_same_or_is_refused(text in config()) {
        let config = yaml::parse(text.as_bytes()).unwrap();
        let Ok(older) = canonical::write_as(&config, "stele/v1") else {
            prop_assert!(text.contains("stele/v2"), "{}", text);
            return Ok(());
        };
        prop_assert!(!String::from_utf8_lossy(&older).contains("stele/v2"));
        prop_assert_eq!(&canonical::read(&older).unwrap(), &config);
        let documents: Vec<serde_json::Value> = serde_json::from_slice(&older).unwrap();
        for document in documents {
            prop_assert!(SCHEMA.is_valid(&document), "{}", document);
            let newest = newest_version(document["kind"].as_str().unwrap());
            let there = canonical::convert(&document.to_string(), newest).unwrap();
            let back = canonical::convert(&there, "stele/v1").unwrap();
            prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&back).unwrap(), document);
        }
    }

    #[test]
    fn schema_never_refuses_what_the_reader_takes(document in mutated()) {
        let identity: Vec<serde_json::Value> =
            serde_json::from_slice(&canonical::write(&yaml::parse(PKI.yaml().as_bytes()).unwrap())).unwrap();
        let mut documents = vec![document.clone()];
        if document["kind"] != "Identity" {
            documents.extend(identity);
        }
        let read = canonical::read(&serde_json::to_vec(&documents).unwrap()).is_ok();
        prop_assert!(!read || SCHEMA.is_valid(&document), "{}", document);
    }
}
