// SPDX-License-Identifier: Apache-2.0
//! Configurations: what differs, what is sent, and what comes of it.

use crate::{
    fleet,
    support::{
        Run, User,
        node::{Node, Reply},
    },
    unknown,
};
use prost::Message as _;
use std::{
    collections::BTreeMap,
    fs,
    sync::{Arc, Mutex},
};
use stele_config::{canonical, yaml};
use stele_proto::v1::{
    ApplyMode, ApplyRequest, ApplyResponse, ConfigChange, ConfirmResponse, Effect, Generation,
    GenerationState, GetRequest, GetResponse, HistoryResponse, Kind, ListKindsResponse,
    ListRequest, ListResponse, Resource, RestoreRequest,
};

/// What a node answers that this is valid for: as init's `Intent::fits` has it, nothing is done live that needs a restart.
fn answer(request: &ApplyRequest) -> Reply {
    let confirm_by = request
        .confirm_within
        .map(|within| prost_types::Timestamp { seconds: 1_800_000_000 + within.seconds, nanos: 0 });
    let state = if request.mode() == ApplyMode::Staged {
        GenerationState::Staged
    } else {
        GenerationState::Active
    };
    let generation = Generation {
        number: 7,
        persistent: true,
        confirm_by,
        state: state.into(),
        ..Generation::default()
    };
    let change = |document: &str, effect: Effect, services: &[&str]| ConfigChange {
        document: document.to_owned(),
        what: "changes".to_owned(),
        effect: effect.into(),
        services: services.iter().map(ToString::to_string).collect(),
    };
    let mut changes = vec![
        change("Hostname", Effect::Live, &[]),
        change("Environment", Effect::Restart, &["app", "web"]),
    ];
    if String::from_utf8_lossy(&request.documents).contains("kind: KernelArgs") {
        changes.push(change("KernelArgs", Effect::Reboot, &[]));
        let live = matches!(request.mode(), ApplyMode::Unspecified | ApplyMode::Live);
        if live && !request.dry_run {
            let why = "these changes take a restart of the machine; apply them with the mode reboot, or staged for the \
                       next one:\nKernelArgs: changes";
            return Reply::refused(9, why, Vec::new());
        }
    }
    Reply::one(&ApplyResponse {
        generation: (!request.dry_run).then_some(generation),
        changes,
        ..ApplyResponse::default()
    })
}

fn history() -> Vec<Generation> {
    let one = |number, state: GenerationState, reason: &str| Generation {
        number,
        state: state.into(),
        author: "bob".to_owned(),
        reason: reason.to_owned(),
        image: "1.0.0".to_owned(),
        sha256: "0123456789abcdef".to_owned(),
        ..Generation::default()
    };
    vec![
        one(6, GenerationState::Active, ""),
        one(5, GenerationState::Reverted, "was not confirmed in time"),
        one(4, GenerationState::Superseded, ""),
    ]
}

/// A node with generations, the last of them in force, and what it was sent last.
struct Configured {
    user: User,
    _node: Node,
    kept: Arc<Mutex<BTreeMap<u64, Vec<u8>>>>,
    sent: Arc<Mutex<Option<ApplyRequest>>>,
}

impl Configured {
    fn start() -> Configured {
        let kept = Arc::new(Mutex::new(BTreeMap::<u64, Vec<u8>>::new()));
        let sent = Arc::new(Mutex::new(None));
        let (generations, last) = (Arc::clone(&kept), Arc::clone(&sent));
        let generation = |number| Some(Generation { number, ..Generation::default() });
        let (user, node) = fleet("web1", move |path, body| match path {
            "/stele.v1.ConfigService/Get" => {
                let asked = GetRequest::decode(&body[5..]).unwrap().generation;
                let generations = generations.lock().unwrap();
                let (active, documents) = generations.last_key_value().unwrap();
                let number = if asked == 0 { *active } else { asked };
                let text = String::from_utf8(documents.clone()).unwrap();
                let old = || text.replace("\"web1\"", &format!("\"web{number}\"")).into_bytes();
                let documents = generations.get(&number).cloned().unwrap_or_else(old);
                let state = match number == *active {
                    true => GenerationState::Active,
                    false => GenerationState::Superseded,
                };
                let generation = Generation {
                    number,
                    state: state.into(),
                    author: "bob".to_owned(),
                    persistent: true,
                    ..Generation::default()
                };
                Reply::one(&GetResponse { generation: Some(generation), documents })
            }
            "/stele.v1.ConfigService/Apply" => {
                let request = ApplyRequest::decode(&body[5..]).unwrap();
                let (active, base) =
                    (*generations.lock().unwrap().keys().max().unwrap(), request.base);
                let answer = if base > 0 && base != active {
                    let why = format!("generation {active} of bob is in force, not {base}");
                    Reply::refused(10, &why, Vec::new())
                } else {
                    answer(&request)
                };
                *last.lock().unwrap() = Some(request);
                answer
            }
            "/stele.v1.ConfigService/Restore" => {
                let request = RestoreRequest::decode(&body[5..]).unwrap();
                assert!(matches!(request.generation, 0 | 5) && request.base == 6);
                answer(&ApplyRequest::default())
            }
            "/stele.v1.ConfigService/Confirm" => {
                Reply::one(&ConfirmResponse { generation: generation(7) })
            }
            "/stele.v1.ConfigService/History" => {
                Reply::one(&HistoryResponse { generations: history() })
            }
            "/stele.v1.ResourceService/ListKinds" => Reply::one(&ListKindsResponse {
                kinds: vec![Kind { name: "Hostname".to_owned(), ..Kind::default() }],
            }),
            "/stele.v1.ResourceService/List" => {
                let request = ListRequest::decode(&body[5..]).unwrap();
                let text = prost_types::value::Kind::StringValue("web9".to_owned());
                let value = prost_types::Value { kind: Some(text) };
                let fields = [("hostname".to_owned(), value)].into();
                let status = Some(prost_types::Struct { fields });
                let hostname =
                    Resource { name: "hostname".to_owned(), status, ..Resource::default() };
                let resources =
                    if request.kind == "Hostname" { vec![hostname] } else { Vec::new() };
                Reply::one(&ListResponse { resources })
            }
            _ => unknown(path),
        });
        let configured = Configured { user, _node: node, kept, sent };
        configured.keep(6, &configured.text());
        configured
    }

    /// Makes a configuration a generation; the last one is in force.
    fn keep(&self, number: u64, text: &str) {
        let documents = canonical::write(&yaml::parse(text.as_bytes()).unwrap());
        self.kept.lock().unwrap().insert(number, documents);
    }

    fn text(&self) -> String {
        fs::read_to_string(self.user.path("web1/machine.yaml")).unwrap()
    }

    /// What was sent last.
    fn sent(&self) -> String {
        let request = self.sent.lock().unwrap().take().expect("nothing was sent");
        let text = String::from_utf8(request.documents).unwrap();
        yaml::parse(text.as_bytes()).unwrap();
        text
    }
}

#[test]
fn a_dry_run_shows_what_differs_and_no_secret() {
    let Configured { user, .. } = &Configured::start();
    let dry_run = ["apply-config", "-f", "web1/machine.yaml", "--dry-run"];
    let run = user.ctl(&dry_run).says(0, &["valid"]);
    assert!(!run.out.contains("---"), "{}", run.out);
    let file = user.path("web1/machine.yaml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("hostname: web1", "hostname: web2")).unwrap();
    let run = user.ctl(&dry_run).says(
        0,
        &[
            "--- Hostname (generation 6)\n+++ Hostname (web1/machine.yaml)",
            "-hostname: web1\n+hostname: web2\n",
        ],
    );
    assert!(!run.out.contains("PRIVATE KEY"), "{}", run.out);
}

#[test]
fn a_patch_changes_what_it_names_and_leaves_the_rest() {
    let node = Configured::start();
    for (patch, version, dhcp4) in [
        ("{kind: Link, name: eth0, dhcp4: {}}", "stele/v2", "dhcp4: {}"),
        ("{apiVersion: stele/v1, kind: Link, name: eth0, dhcp4: true}", "stele/v1", "dhcp4: true"),
    ] {
        let run = node.user.ctl(&["patch", "-p", patch]);
        run.says(0, &["+++ Link eth0", "+dhcp4:\n+  routes: true", "generation 7"]);
        let sent = node.sent();
        let (_, others) = sent.split_once("\n---\n").unwrap();
        let hostname = "apiVersion: stele/v1\nkind: Hostname\nhostname: web1\n---\n";
        let link = format!("apiVersion: {version}\nkind: Link\nname: eth0\n{dhcp4}\n");
        assert_eq!(others.replace("'", ""), format!("{hostname}{link}"));
    }
    let operation = r#"[{"op": "replace", "path": "/Hostname/hostname", "value": "web2"}]"#;
    node.user.ctl(&["patch", "--type", "json", "-p", operation]).says(0, &["+hostname: web2"]);
    assert!(node.sent().contains("hostname: web2"));
    for (patch, code, why) in [
        ("{kind: Hostname, hostname: -}", 2, "Nothing was sent"),
        ("{kind: Hostnam, hostname: a}", 2, "Hostname"),
        ("{kind: Link, name: eth7, $patch: delete}", 1, "no Link eth7"),
    ] {
        node.user.ctl(&["patch", "-p", patch]).says(code, &[why]);
        assert!(node.sent.lock().unwrap().is_none(), "{patch}");
    }
    let redacted = canonical::redact(&yaml::parse(node.text().as_bytes()).unwrap());
    node.kept.lock().unwrap().insert(6, redacted);
    node.user.ctl(&["patch", "-p", "{kind: Hostname, hostname: a}"]).says(1, &["os:admin"]);
}

#[test]
fn an_apply_names_what_it_was_made_from_and_says_what_each_change_takes() {
    let node = Configured::start();
    let apply = |more: &[&str]| {
        node.user.ctl(&[&["apply-config", "-f", "web1/machine.yaml"], more].concat())
    };
    let run = apply(&[]).says(0, &["web1: accepted as generation 7\n"]);
    assert_eq!(
        run.out.lines().skip(1).collect::<Vec<_>>(),
        ["  - Hostname: changes, live", "  - Environment: changes, restarts app, web",]
    );
    assert_eq!(node.sent.lock().unwrap().take().unwrap().base, 6);
    apply(&["--confirm-within", "5m"]).says(0, &["2027-01-15T08:05:00Z", "ctl confirm -n web1"]);
    apply(&["--mode", "staged"]).says(0, &["with the next start of the machine"]);
    apply(&["--confirm-within", "5s"]).says(2, &["from 10s to 24h"]);
    let run =
        apply(&["--base", "5"]).says(1, &["generation 6 of bob", "ABORTED", "Nothing was done"]);
    assert!(run.err.contains("-hostname: web5\n+hostname: web1\n"), "{}", run.err);
    let json = apply(&["-o", "json"]).says(0, &[]).out;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["changes"][1]["services"][1], "web");
    assert_eq!(json["generation"]["state"], "active");
}

#[test]
fn what_needs_a_restart_is_refused_live_and_a_dry_run_says_so() {
    let node = Configured::start();
    let args = "---\napiVersion: stele/v1\nkind: KernelArgs\nargs: [mitigations=auto]\n";
    let file = node.user.path("f.yaml");
    fs::write(&file, format!("{}{args}", node.text())).unwrap();
    let apply = |more: &[&str]| node.user.ctl(&[&["apply-config", "-f", "f.yaml"], more].concat());
    let change = "KernelArgs: changes, with the next start of the machine\n";
    let needed = "It would be refused: KernelArgs needs a restart of the machine; apply it with --mode reboot";
    apply(&["--dry-run"]).says(0, &["valid", change, needed]);
    apply(&["--dry-run", "--mode", "live"]).says(0, &[change, needed]);
    for mode in ["staged", "reboot"] {
        let run = apply(&["--dry-run", "--mode", mode]).says(0, &[change]);
        assert!(!run.out.contains("refused"), "{}", run.out);
        apply(&["--mode", mode]).says(0, &["accepted as generation 7", change]);
    }
    apply(&[]).says(1, &["take a restart of the machine", "KernelArgs", "FAILED_PRECONDITION"]);
    let run = node.user.ctl(&["apply-config", "-f", "web1/machine.yaml", "--dry-run"]);
    assert!(!run.says(0, &["valid"]).out.contains("refused"));
}

#[test]
fn a_file_is_of_the_generation_that_its_heading_names() {
    let node = Configured::start();
    let file = node.user.path("f.yaml");
    let apply = |text: &str, more: &[&str]| {
        fs::write(&file, text).unwrap();
        node.user.ctl(&[&["apply-config", "-f", "f.yaml"], more].concat())
    };
    let base = || node.sent.lock().unwrap().take().unwrap().base;
    let text = node.user.ctl(&["get", "config"]).says(0, &["# Generation 6, from bob\n"]).out;
    let mine = text.replace("hostname: web1", "hostname: web2");
    apply(&mine, &["--dry-run"]).says(0, &["valid"]);
    assert_eq!((base(), fs::read_to_string(&file).unwrap()), (6, mine.clone()));
    apply(&mine, &[]).says(0, &["accepted"]);
    assert_eq!(base(), 6);
    // The next change of the file is made from what it became.
    let (_, rest) = mine.split_once('\n').unwrap();
    assert_eq!(fs::read_to_string(&file).unwrap(), format!("# Generation 7\n{rest}"));

    node.keep(7, &node.text().replace("hostname: web1", "hostname: web3"));
    for more in [&[][..], &["--dry-run"]] {
        let run = apply(&mine, more).says(
            1,
            &["-hostname: web1\n+hostname: web3\n", "generation 7 of bob", "add --base 7"],
        );
        assert!(!run.err.contains("web2"), "{}", run.err);
        assert_eq!(base(), 6);
    }
    apply(&mine, &["--base", "7"]).says(0, &["accepted"]);
    assert_eq!(base(), 7);
    let (_, without) = mine.split_once('\n').unwrap();
    apply(without, &[]).says(0, &["accepted"]);
    assert_eq!(base(), 7);
    apply(&text.replace("hostname: web1", "hostname: web3"), &[]).says(0, &["accepted"]);
    assert_eq!(base(), 7, "what is in force already overwrites nothing");

    let old = node.user.ctl(&["config", "show", "6"]).says(0, &["# Not in force: generation 6"]);
    apply(&old.out, &[]).says(0, &["accepted"]);
    assert_eq!(base(), 7);
    node.user.ctl(&["config", "show", "7"]).says(0, &["# Generation 7"]);
}

#[test]
fn the_past_is_listed_compared_and_gone_back_to() {
    let node = Configured::start();
    let run = node.user.ctl(&["config", "history"]).says(0, &[]);
    assert_eq!(
        run.out,
        "GENERATION  STATE       TIME  AUTHOR  IMAGE  SHA256        REASON\n\
         6           active      -     bob     1.0.0  0123456789ab  -\n\
         5           reverted    -     bob     1.0.0  0123456789ab  was not confirmed in time\n\
         4           superseded  -     bob     1.0.0  0123456789ab  -\n"
    );
    node.user
        .ctl(&["config", "show", "5"])
        .says(0, &["# Not in force: generation 5, from bob\n", "hostname: web5"]);
    node.user.ctl(&["config", "diff", "5"]).says(
        0,
        &[
            "--- Hostname (generation 5)\n+++ Hostname (generation 6)",
            "-hostname: web5\n+hostname: web1\n",
        ],
    );
    node.user
        .ctl(&["config", "rollback", "5"])
        .says(0, &["+hostname: web5", "accepted as generation 7"]);
    // The one before that was kept.
    for more in [&[][..], &["--dry-run"]] {
        node.user
            .ctl(&[&["config", "rollback"], more].concat())
            .says(0, &["+++ Hostname (generation 4)\n", "-hostname: web1\n+hostname: web4\n"]);
    }
    node.user.ctl(&["confirm"]).says(0, &["web1: generation 7 stays"]);
}

#[test]
fn an_edited_configuration_is_checked_and_never_lost() {
    let node = Configured::start();
    let edit = |editor: &str, more: &[&str]| {
        let mut command = node.user.command(&[&["edit"], more].concat());
        Run::new(&command.env("EDITOR", editor).env("TMPDIR", node.user.home()).output().unwrap())
    };
    edit("true", &[]).says(0, &["Nothing was changed"]);
    edit("grep -q 'PRIVATE KEY'", &[]).says(1, &["failed"]);
    edit("grep -q 'key: (secret Identity key)'", &[]).says(0, &["Nothing was changed"]);
    edit("sed -i s/web1/web2/", &[]).says(0, &["+hostname: web2", "accepted as generation 7"]);
    let sent = node.sent.lock().unwrap().take().unwrap();
    let text = String::from_utf8(sent.documents).unwrap();
    assert!(sent.base == 6 && text.contains("PRIVATE KEY") && !text.contains("##"), "{text}");
    let drafts = || {
        let folders = fs::read_dir(node.user.home()).unwrap().map(|entry| entry.unwrap().path());
        folders.filter(|path| path.to_string_lossy().contains("stele-edit-")).collect::<Vec<_>>()
    };
    drafts().iter().for_each(|draft| fs::remove_dir_all(draft).unwrap());
    let run = edit("sed -i 's/hostname: web1/hostname: -/'", &[])
        .says(2, &["the edited configuration:", "Nothing was sent", "ctl edit -f"]);
    assert!(node.sent.lock().unwrap().is_none() && !run.err.contains("PRIVATE KEY"), "{}", run.err);
    let [draft] = drafts().try_into().unwrap();
    let file = draft.join("machine.yaml");
    let kept = fs::read_to_string(&file).unwrap();
    assert!(kept.contains("hostname: -") && !kept.contains("PRIVATE KEY"), "{kept}");
    let name = file.to_string_lossy().into_owned();
    edit("sed -i 's/hostname: -/hostname: web3/'", &["-f", &name]).says(0, &["+hostname: web3"]);
}

#[test]
fn a_text_that_was_kept_undoes_nothing_unasked() {
    let node = Configured::start();
    let edit = |editor: &str, more: &[&str]| {
        let mut command = node.user.command(&[&["edit"], more].concat());
        Run::new(&command.env("EDITOR", editor).env("TMPDIR", node.user.home()).output().unwrap())
    };
    let run = edit("sed -i 's/hostname: web1/hostname: -/'", &[]).says(2, &["Nothing was sent"]);
    let (_, kept) = run.err.split_once("ctl edit -f ").unwrap();
    let kept = kept.trim_end();
    let text = fs::read_to_string(kept).unwrap();
    assert!(text.contains("\n## Generation 6 of web1. "), "{text}");
    fs::write(kept, text.replace("hostname: -", "hostname: web2")).unwrap();

    node.keep(7, &node.text().replace("hostname: web1", "hostname: web3"));
    let meanwhile = "-hostname: web1\n+hostname: web3\n";
    let run = edit("touch opened", &["-f", kept])
        .says(1, &[meanwhile, "generation 6, and generation 7 by bob", "add --base 7"]);
    assert!(!run.err.contains("web2") && !node.user.path("opened").exists(), "{}", run.err);
    edit("true", &["-f", kept, "--base", "8"]).says(1, &["made from generation 8"]);
    assert!(node.sent.lock().unwrap().is_none());

    edit("grep -q 'Generation 7 of web1'", &["-f", kept, "--base", "7"])
        .says(0, &["-hostname: web3\n+hostname: web2\n", "accepted"]);
    assert_eq!(node.sent.lock().unwrap().take().unwrap().base, 7);
}

#[test]
fn drift_is_what_the_machine_is_and_should_not_be() {
    let node = Configured::start();
    let run = node.user.ctl(&["drift"]).says(1, &[]);
    assert_eq!(
        run.out,
        "DOCUMENT  FIELD     CONFIGURED  ACTUAL  REASON\n\
         Hostname  hostname  web1        web9    -\n"
    );
    node.keep(6, &node.text().replace("hostname: web1", "hostname: web9"));
    node.user.ctl(&["drift"]).says(0, &["web1: it is what generation 6 says"]);
}
