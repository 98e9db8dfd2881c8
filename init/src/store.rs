// SPDX-License-Identifier: Apache-2.0
//! The store: every state of the machine, as resources of a kind, with versions and a watch.
//!
//! A watcher has a queue of its own. One that does not keep up is let go with a word of why; it never holds the
//! machine up. A change is encoded once, however many watch it: what waits in the queues is shared. When nobody watches a
//! kind, a change costs a comparison.

mod since;

use crate::events::Events;
use bytes::Bytes;
use prost::Message as _;
use serde::Serialize;
use serde_json::Value;
use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::Rc,
    time::SystemTime,
};
use stele_kernel::clock;
use stele_proto::v1;
use tokio::sync::mpsc;

/// Changes that may wait for a watcher.
const QUEUE: usize = 1024;

macro_rules! kinds {
    ($($name:ident, $description:literal, [$(($heading:literal, $field:literal)),*];)*) => {
        /// A kind of resource.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub(crate) enum Kind { $(#[doc = $description] $name,)* }

        impl Kind {
            /// All kinds.
            pub(crate) const ALL: &'static [Kind] = &[$(Kind::$name,)*];

            /// The name.
            pub(crate) fn name(self) -> &'static str {
                match self { $(Kind::$name => stringify!($name),)* }
            }

            /// The kind as the API describes it.
            pub(crate) fn describe(self) -> v1::Kind {
                let (description, columns): (&str, &[(&str, &str)]) = match self {
                    $(Kind::$name => ($description, &[$(($heading, $field)),*]),)*
                };
                let column = |(heading, field): &(&str, &str)| v1::Column {
                    heading: (*heading).to_owned(),
                    field: (*field).to_owned(),
                };
                v1::Kind {
                    name: self.name().to_owned(),
                    description: description.to_owned(),
                    columns: columns.iter().map(column).collect(),
                }
            }
        }
    };
}

kinds! {
    Address, "An IP address of a link.", [("LINK", "link"), ("ADDRESS", "address"), ("ORIGIN", "origin")];
    Boot, "A start of this machine, and how it ended.", [("IMAGE", "image"), ("GENERATION", "generation"), ("STARTED", "started"), ("HEALTH", "health"), ("ENDED", "ended"), ("CAUSE", "cause")];
    Certificate, "The certificate that the API serves.", [("FINGERPRINT", "fingerprint"), ("NOT AFTER", "notAfter"), ("NAMES", "names")];
    Descriptor, "A file that PID 1 has open.", [("KIND", "kind"), ("FAMILY", "family"), ("TARGET", "target")];
    Environment, "Variables that the configuration gives to services.", [("STATE", "state"), ("SERVICES", "services"), ("NAMES", "names"), ("REASON", "reason")];
    Files, "Files that the configuration writes below /etc.", [("STATE", "state"), ("PATHS", "paths"), ("REASON", "reason")];
    Firewall, "Which packets the machine takes and sends.", [("STATE", "state"), ("INGRESS", "ingress"), ("EGRESS", "egress"), ("RULES", "rules"), ("REASON", "reason")];
    Gate, "Whether the running image has proved itself.", [("STATE", "state"), ("REASON", "reason")];
    Generation, "A configuration that the machine has accepted.", [("STATE", "state"), ("TIME", "time"), ("AUTHOR", "author"), ("IMAGE", "image"), ("REASON", "reason")];
    HealthCheck, "A check of the machine's health.", [("STATE", "state"), ("NEED", "need"), ("REASON", "reason")];
    Hostname, "The machine's name.", [("HOSTNAME", "hostname"), ("ORIGIN", "origin")];
    Hosts, "Names of machines that no name server is asked for.", [("HOSTS", "hosts")];
    KernelArgs, "What the kernel is told when it starts besides what the image says.", [("STATE", "state"), ("ARGS", "args"), ("WANTED", "wanted"), ("REASON", "reason")];
    KernelModule, "A kernel module that the configuration asks for.", [("STATE", "state"), ("PARAMETERS", "parameters"), ("REASON", "reason")];
    Lease, "A DHCP lease of a link.", [("ADDRESS", "address"), ("ROUTERS", "routers"), ("SERVER", "server"), ("SECONDS", "seconds")];
    Link, "A network interface.", [("STATE", "state"), ("MASTER", "master"), ("MAC", "mac"), ("MTU", "mtu"), ("ADDRESSES", "addresses"), ("REASON", "reason")];
    LogSink, "A place that logs are sent to.", [("STATE", "state"), ("ADDRESS", "address"), ("SENT", "sent"), ("LOST", "lost"), ("REASON", "reason")];
    Memory, "The machine's memory.", [("TOTAL", "total"), ("AVAILABLE", "available")];
    Metrics, "Where the machine's figures can be had without a certificate.", [("STATE", "state"), ("ADDRESS", "address"), ("REASON", "reason")];
    Module, "A kernel module that the machine has loaded.", [("STATE", "state"), ("REASON", "reason")];
    Platform, "Where the machine runs.", [("STATE", "state"), ("INSTANCE", "instanceId"), ("REGION", "region"), ("EVIDENCE", "evidence"), ("REASON", "reason")];
    Probe, "Whether something on the network can be reached.", [("STATE", "state"), ("LATENCY", "latency"), ("SINCE", "since"), ("REASON", "reason")];
    RegistryAuth, "Who asks a registry.", [("STATE", "state"), ("USERNAME", "username"), ("REASON", "reason")];
    RegistryMirror, "Other places that have what a registry has.", [("STATE", "state"), ("ENDPOINTS", "endpoints"), ("REASON", "reason")];
    Resolver, "How names are resolved, and by whom.", [("STATE", "state"), ("SERVERS", "servers"), ("SEARCH", "search"), ("ORIGIN", "origin"), ("REASON", "reason")];
    Route, "A route.", [("TO", "to"), ("VIA", "via"), ("LINK", "link"), ("METRIC", "metric"), ("TABLE", "table"), ("ORIGIN", "origin")];
    RoutingRule, "Which packets are routed by which table.", [("PRIORITY", "priority"), ("FAMILY", "family"), ("FROM", "from"), ("TO", "to"), ("TABLE", "table"), ("ORIGIN", "origin")];
    Service, "A program that PID 1 keeps running.", [("STATE", "state"), ("PID", "pid"), ("RESTARTS", "restarts"), ("MEMORY", "memory"), ("REASON", "reason")];
    Slot, "An image on the ESP.", [("VERSION", "version"), ("STATE", "state"), ("RUNNING", "running"), ("TRIES", "triesLeft"), ("FILE", "file")];
    Source, "A place where the machine looked for its configuration.", [("STATE", "state"), ("REASON", "reason")];
    Sysctl, "A setting of the kernel that the configuration makes.", [("STATE", "state"), ("VALUE", "value"), ("WANTED", "wanted"), ("REASON", "reason")];
    Time, "Whether the clock is right, and by whom.", [("STATE", "state"), ("OFFSET", "offset"), ("SOURCE", "source"), ("STRATUM", "stratum"), ("AUTHENTICATED", "authenticated"), ("SINCE", "since"), ("REASON", "reason")];
    TrustedRoots, "Authorities that the machine believes besides those of the image.", [("STATE", "state"), ("AUTHORITIES", "authorities"), ("REASON", "reason")];
    Volume, "A file system of the machine.", [("STATE", "state"), ("DEVICE", "device"), ("SIZE", "size"), ("FREE", "free"), ("REASON", "reason")];
    Watchdog, "What restarts the machine when PID 1 stops to work.", [("STATE", "state"), ("IDENTITY", "identity"), ("TIMEOUT", "timeout"), ("REASON", "reason")];
    WireGuard, "Tunnels to other machines.", [("STATE", "state"), ("PUBLIC KEY", "publicKey"), ("PORT", "port"), ("PEERS", "peers"), ("REASON", "reason")];
}

impl Kind {
    /// The kind of this name, in any case.
    pub(crate) fn parse(name: &str) -> Option<Kind> {
        Kind::ALL.iter().copied().find(|kind| kind.name().eq_ignore_ascii_case(name))
    }
}

/// A resource.
#[derive(Debug)]
struct Entry {
    version: u64,
    updated: SystemTime,
    status: Value,
}

impl Entry {
    fn to_resource(&self, kind: Kind, name: &str) -> v1::Resource {
        v1::Resource {
            kind: kind.name().to_owned(),
            name: name.to_owned(),
            version: self.version,
            updated: Some(self.updated.into()),
            status: Some(to_struct(&self.status)),
        }
    }
}

/// One who watches.
#[derive(Debug)]
struct Watcher {
    kind: Kind,
    name: String,
    queue: mpsc::Sender<Bytes>,
    fell_behind: Rc<Cell<bool>>,
}

/// A watch: what to read, each an encoded `WatchResponse`, and whether it was let go for not reading.
#[derive(Debug)]
pub(crate) struct Watch {
    pub(crate) changes: mpsc::Receiver<Bytes>,
    pub(crate) fell_behind: Rc<Cell<bool>>,
}

/// All resources.
#[derive(Debug, Default)]
pub(crate) struct Store {
    /// What happened to them.
    pub(crate) events: Events,
    version: Cell<u64>,
    resources: RefCell<BTreeMap<(Kind, String), Entry>>,
    watchers: RefCell<Vec<Watcher>>,
}

impl Store {
    /// Says what is known of a resource. Saying the same again changes nothing.
    pub(crate) fn put(&self, kind: Kind, name: &str, status: &impl Serialize) {
        let mut status = match serde_json::to_value(status) {
            Ok(status) => status,
            Err(error) => {
                tracing::error!(resource.kind = kind.name(), resource.name = name, error = %error, "writing a status failed");
                return;
            }
        };
        let mut resources = self.resources.borrow_mut();
        let key = (kind, name.to_owned());
        let before = resources.get(&key);
        since::note(kind, before.map(|entry| &entry.status), &mut status, || {
            clock::since_boot().unwrap_or_default()
        });
        if before.is_some_and(|entry| entry.status == status) {
            return;
        }
        let change = if before.is_some() { v1::Change::Modified } else { v1::Change::Added };
        if let Some((message, wrong)) = story(kind, before.map(|entry| &entry.status), &status) {
            self.events.happened(kind.name(), name, &message, wrong);
        }
        let entry = Entry { version: self.next_version(), updated: SystemTime::now(), status };
        self.notify(kind, name, change, &entry);
        resources.insert(key, entry);
    }

    /// Forgets a resource.
    pub(crate) fn remove(&self, kind: Kind, name: &str) {
        if let Some(mut entry) = self.resources.borrow_mut().remove(&(kind, name.to_owned())) {
            entry.version = self.next_version();
            if is_told(kind, &entry.status) {
                self.events.happened(kind.name(), name, "is gone", false);
            }
            self.notify(kind, name, v1::Change::Removed, &entry);
        }
    }

    /// Makes the resources of a kind be exactly these.
    pub(crate) fn replace<S: Serialize>(&self, kind: Kind, resources: &BTreeMap<String, S>) {
        for name in self.names(kind) {
            if !resources.contains_key(&name) {
                self.remove(kind, &name);
            }
        }
        for (name, status) in resources {
            self.put(kind, name, status);
        }
    }

    /// The names of a kind's resources.
    pub(crate) fn names(&self, kind: Kind) -> Vec<String> {
        self.resources
            .borrow()
            .keys()
            .filter(|(found, _)| *found == kind)
            .map(|(_, name)| name.clone())
            .collect()
    }

    /// The resources of a kind, or the one of this name.
    pub(crate) fn list(&self, kind: Kind, name: &str) -> Vec<v1::Resource> {
        self.resources
            .borrow()
            .iter()
            .filter(|((found, named), _)| *found == kind && (name.is_empty() || name == named))
            .map(|((_, name), entry)| entry.to_resource(kind, name))
            .collect()
    }

    /// What is known of a resource.
    pub(crate) fn status(&self, kind: Kind, name: &str) -> Option<Value> {
        self.resources.borrow().get(&(kind, name.to_owned())).map(|entry| entry.status.clone())
    }

    /// Follows a kind from now on; together with [`Store::list`] in the same breath, nothing is missed.
    pub(crate) fn watch(&self, kind: Kind, name: &str) -> Watch {
        let (queue, changes) = mpsc::channel(QUEUE);
        let fell_behind = Rc::new(Cell::new(false));
        let mut watchers = self.watchers.borrow_mut();
        // Whoever has left is forgotten even when nothing changes.
        watchers.retain(|watcher| !watcher.queue.is_closed());
        watchers.push(Watcher {
            kind,
            name: name.to_owned(),
            queue,
            fell_behind: Rc::clone(&fell_behind),
        });
        Watch { changes, fell_behind }
    }

    /// How many watch.
    #[cfg(test)]
    pub(crate) fn watching(&self) -> usize {
        self.watchers.borrow().len()
    }

    fn next_version(&self) -> u64 {
        self.version.set(self.version.get().saturating_add(1));
        self.version.get()
    }

    fn notify(&self, kind: Kind, name: &str, change: v1::Change, entry: &Entry) {
        let mut encoded: Option<Bytes> = None;
        self.watchers.borrow_mut().retain(|watcher| {
            if watcher.queue.is_closed() {
                return false;
            }
            if watcher.kind != kind || !(watcher.name.is_empty() || watcher.name == name) {
                return true;
            }
            let bytes = encoded.get_or_insert_with(|| {
                let resource = Some(entry.to_resource(kind, name));
                v1::WatchResponse { change: change.into(), resource }.encode_to_vec().into()
            });
            let kept = watcher.queue.try_send(bytes.clone()).is_ok();
            watcher.fell_behind.set(!kept);
            kept
        });
    }
}

/// Whether what happens to such a resource is an event. Of the others there is too much, or nothing to say: routes that are not
/// ours come and go as any machine on a link wants that speaks as a router.
fn is_told(kind: Kind, status: &Value) -> bool {
    match kind {
        Kind::Boot | Kind::Descriptor | Kind::Memory | Kind::Module => false,
        Kind::Route => text(status, "origin") != Some("kernel"),
        _ => true,
    }
}

/// What a change of a status is worth telling: that it is there, or has another state now, and why.
fn story(kind: Kind, before: Option<&Value>, now: &Value) -> Option<(String, bool)> {
    /// States that someone should look at.
    const WRONG: [&str; 8] =
        ["failed", "failing", "bad", "reverted", "lost", "unreachable", "unreadable", "waiting"];
    if !is_told(kind, now) {
        return None;
    }
    let Some(state) = text(now, "state") else {
        return before.is_none().then(|| ("is there".to_owned(), false));
    };
    if before.and_then(|before| text(before, "state")) == Some(state) {
        return None;
    }
    let reason = text(now, "reason").filter(|reason| !reason.is_empty());
    let message = reason.map_or_else(|| state.to_owned(), |reason| format!("{state}: {reason}"));
    Some((message, WRONG.contains(&state)))
}

fn text<'a>(status: &'a Value, field: &str) -> Option<&'a str> {
    status.get(field)?.as_str()
}

fn to_struct(value: &Value) -> prost_types::Struct {
    match to_value(value).kind {
        Some(prost_types::value::Kind::StructValue(fields)) => fields,
        kind => prost_types::Struct {
            fields: BTreeMap::from([("value".to_owned(), prost_types::Value { kind })]),
        },
    }
}

fn to_value(value: &Value) -> prost_types::Value {
    use prost_types::value::Kind;
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(value) => Kind::BoolValue(*value),
        Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or(f64::NAN)),
        Value::String(text) => Kind::StringValue(text.clone()),
        Value::Array(values) => Kind::ListValue(prost_types::ListValue {
            values: values.iter().map(to_value).collect(),
        }),
        Value::Object(fields) => Kind::StructValue(prost_types::Struct {
            fields: fields.iter().map(|(name, value)| (name.clone(), to_value(value))).collect(),
        }),
    };
    prost_types::Value { kind: Some(kind) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_watch_misses_nothing_and_the_same_again_is_no_change() {
        let store = Store::default();
        store.put(Kind::Link, "eth0", &json!({"state": "down"}));
        let mut watch = store.watch(Kind::Link, "");
        store.put(Kind::Link, "eth0", &json!({"state": "down"}));
        store.put(Kind::Link, "eth0", &json!({"state": "up"}));
        store.put(Kind::Service, "apid", &json!({}));
        store.remove(Kind::Link, "eth0");
        let changes: Vec<_> = std::iter::from_fn(|| watch.changes.try_recv().ok())
            .map(|bytes| v1::WatchResponse::decode(bytes).unwrap().change())
            .collect();
        assert_eq!(changes, [v1::Change::Modified, v1::Change::Removed]);
    }

    #[test]
    fn a_watcher_that_falls_behind_is_let_go_and_told() {
        let store = Store::default();
        let watch = store.watch(Kind::Link, "");
        for number in 0..=QUEUE {
            store.put(Kind::Link, "eth0", &json!({ "number": number }));
        }
        assert!(watch.fell_behind.get());
        assert!(store.watchers.borrow().is_empty());
    }

    #[test]
    fn what_waits_for_many_is_there_once() {
        let store = Store::default();
        let mut watches: Vec<Watch> = (0..3).map(|_| store.watch(Kind::Link, "")).collect();
        store.put(Kind::Link, "eth0", &json!({"state": "up"}));
        let read = watches.iter_mut().map(|watch| watch.changes.try_recv().unwrap());
        let places: Vec<*const u8> = read.map(|bytes| bytes.as_ptr()).collect();
        assert!(places.windows(2).all(|pair| pair[0] == pair[1]));
    }

    #[test]
    fn who_has_left_is_forgotten_when_the_next_one_comes() {
        let store = Store::default();
        for _ in 0..10 {
            drop(store.watch(Kind::Link, ""));
        }
        assert_eq!(store.watchers.borrow().len(), 1);
    }

    #[test]
    fn kinds_are_found_in_any_case() {
        assert_eq!(Kind::parse("link"), Some(Kind::Link));
        assert_eq!(Kind::parse("Service"), Some(Kind::Service));
        assert_eq!(Kind::parse("pod"), None);
    }
}
