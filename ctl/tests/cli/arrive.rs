// SPDX-License-Identifier: Apache-2.0
//! An upgrade on a node with a health gate, followed to its end.

use crate::{fleet, health::resource, support::node::Reply, unknown, version};
use bytes::Bytes;
use prost::Message as _;
use serde_json::{Value, json};
use std::sync::Mutex;
use stele_proto::v1::{
    ListRequest, ListResponse, Progress, Slot, SlotState, StatusResponse, Step, VersionResponse,
};

/// How many looks the gate takes.
const LOOKS: u32 = 3;

/// A machine whose new image is on trial for some looks, and then good or not.
#[derive(Debug, Default)]
struct Machine {
    boot: u64,
    looks: u32,
    fails: bool,
}

impl Machine {
    fn image(&self) -> &'static str {
        if self.boot == 8 { "1.1.0" } else { "1.0.0" }
    }

    fn list(&self, kind: &str) -> Option<Vec<(&'static str, Value)>> {
        let trial = self.boot == 8;
        let proved = self.looks > LOOKS;
        let running = |version: &str| version == self.image();
        Some(match kind {
            "Slot" => vec![
                (
                    "stele_1.1.0.efi",
                    json!({"version": "1.1.0", "running": running("1.1.0"), "state": match (trial, proved) {
                    (true, true) => "good", (true, false) => "trying", (false, _) => "bad" }}),
                ),
                (
                    "stele_1.0.0.efi",
                    json!({"version": "1.0.0", "running": running("1.0.0"), "state": "good"}),
                ),
            ],
            "Gate" => vec![(
                "gate",
                if trial && !proved {
                    json!({"state": "pending", "reason": "waiting for web", "deadline": 180.0})
                } else if trial {
                    json!({"state": "passed"})
                } else {
                    json!({"state": "none"})
                },
            )],
            "HealthCheck" => vec![
                ("system/api", json!({"state": "passing", "need": "required", "since": 3.0})),
                (
                    "web",
                    json!({"state": if proved { "passing" } else { "failing" }, "need": "required", "since": 4.0, "reason": "refused"}),
                ),
            ],
            "Boot" if self.boot == 9 => vec![
                ("9", json!({"image": "1.0.0", "started": "fallback from 1.1.0"})),
                (
                    "8",
                    json!({"image": "1.1.0", "generation": 1, "started": "try 1", "health": "failed", "ended": "reboot", "cause": "web: refused"}),
                ),
            ],
            "Boot" => vec![],
            _ => return None,
        })
    }

    fn answer(&mut self, path: &str, body: &Bytes) -> Reply {
        match path {
            "/stele.v1.MachineService/Version" => {
                if self.boot == 8 {
                    self.looks += 1;
                    if self.looks > LOOKS && self.fails {
                        self.boot = 9;
                    }
                }
                Reply::one(&VersionResponse {
                    boot_id: format!("boot {}", self.boot),
                    boot: self.boot,
                    version: self.image().to_owned(),
                    ..version("web1")
                })
            }
            "/stele.v1.UpgradeService/Upgrade" => {
                self.boot = 8;
                Reply::one(&Progress {
                    step: Step::Rebooting.into(),
                    slot: "stele_1.1.0.efi".to_owned(),
                    ..Progress::default()
                })
            }
            "/stele.v1.UpgradeService/Status" => {
                let slot = Slot {
                    id: "stele_1.0.0.efi".to_owned(),
                    state: SlotState::Good.into(),
                    running: true,
                    ..Slot::default()
                };
                Reply::one(&StatusResponse { slots: vec![slot], ..StatusResponse::default() })
            }
            "/stele.v1.ResourceService/List" => {
                let request = ListRequest::decode(&body[5..]).unwrap();
                let Some(all) = self.list(&request.kind) else {
                    return Reply::refused(5, "there is no such kind", Vec::new());
                };
                let resources = all
                    .iter()
                    .map(|(name, status)| resource(&request.kind, name, status))
                    .collect();
                Reply::one(&ListResponse { resources })
            }
            _ => unknown(path),
        }
    }
}

fn upgrade(fails: bool) -> crate::support::Run {
    let machine = Mutex::new(Machine { boot: 7, fails, ..Machine::default() });
    let (user, _node) =
        fleet("web1", move |path, body| machine.lock().unwrap().answer(path, &body));
    user.ctl(&["upgrade", "--slot", "stele_1.1.0.efi"])
}

#[test]
fn checks_turn_green_one_by_one() {
    let run = upgrade(false).says(
        0,
        &[
            "web1: system/api passes\n",
            "1.1.0 is on trial: 1 of 2 required checks pass, waiting for web\n",
            "web1: web passes\n",
            "runs 1.1.0 (was 1.0.0); stele_1.1.0.efi is good",
        ],
    );
    assert_eq!(run.err.matches("is on trial").count(), 1, "{}", run.err);
}

#[test]
fn what_failed_is_told_with_the_way_to_the_evidence() {
    upgrade(true).says(
        1,
        &[
            "boot 8 of 1.1.0 (try 1) failed: web: refused",
            "The node went back: it runs 1.0.0, because 1.1.0 failed: web: refused",
            "ctl boots 8 shows all that is known of it, ctl logs kernel --boot 8 what it left behind",
        ],
    );
}
