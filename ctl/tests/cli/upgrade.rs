// SPDX-License-Identifier: Apache-2.0
//! Upgrades, followed to their end.

use crate::{
    fleet,
    support::{
        User,
        node::{Node, Reply},
    },
    unknown, version,
};
use bytes::Bytes;
use prost::Message as _;
use std::{
    fs,
    sync::{Arc, Mutex},
};
use stele_proto::v1::{
    CancelResponse, Progress, Scheduled, Slot, SlotState, StatusResponse, Step, UpgradeRequest,
    VersionResponse,
};

/// A machine with two slots, as far as an upgrade sees it.
#[derive(Clone, Debug)]
struct Machine {
    boots: u32,
    running: &'static str,
    new: Option<SlotState>,
    looks: u32,
    fails: bool,
    image: usize,
    /// Connections that will break.
    breaks: u32,
    /// What waits for its time.
    waits: Option<&'static str>,
}

impl Machine {
    fn answer(&mut self, path: &str, body: &Bytes) -> Reply {
        let new = "stele_1.1.0";
        match path {
            "/stele.v1.MachineService/Version" => Reply::one(&VersionResponse {
                boot_id: format!("boot {}", self.boots),
                version: self.running.trim_start_matches("stele_").to_owned(),
                ..version("web1")
            }),
            "/stele.v1.UpgradeService/Push" => {
                let at = Progress {
                    step: Step::Receiving.into(),
                    done: self.image as u64,
                    total: 3_000_002,
                    ..Progress::default()
                };
                Reply::one(&at).hears("chunks")
            }
            "chunks" if self.breaks > 0 => {
                self.breaks -= 1;
                self.image += 1_000_000;
                Reply::refused(14, "the power went", Vec::new())
            }
            "chunks" => {
                self.image += body.len();
                self.new = Some(SlotState::Staged);
                Reply::one(&Progress { step: Step::Verifying.into(), ..Progress::default() }).and(
                    &Progress {
                        step: Step::Staged.into(),
                        slot: new.to_owned(),
                        ..Progress::default()
                    },
                )
            }
            "/stele.v1.UpgradeService/Cancel" => {
                Reply::one(&CancelResponse { slot: self.waits.take().unwrap_or_default().into() })
            }
            "/stele.v1.UpgradeService/Upgrade" => {
                let request = UpgradeRequest::decode(body.slice(5..)).unwrap();
                if request.when.is_some() {
                    self.waits = Some(new);
                    return Reply::one(&Progress {
                        step: Step::Scheduled.into(),
                        slot: new.to_owned(),
                        ..Progress::default()
                    });
                }
                self.boots += 1;
                self.running = if self.fails { "stele_1.0.0" } else { new };
                self.new = Some(if self.fails { SlotState::Bad } else { SlotState::Trying });
                Reply::one(&Progress {
                    step: Step::Rebooting.into(),
                    slot: new.to_owned(),
                    ..Progress::default()
                })
            }
            "/stele.v1.UpgradeService/Status" => {
                self.looks += 1;
                if self.looks > 2 && self.new == Some(SlotState::Trying) {
                    self.new = Some(SlotState::Good);
                }
                let slot = |id: &str, state: SlotState| Slot {
                    id: id.to_owned(),
                    version: id.trim_start_matches("stele_").to_owned(),
                    state: state.into(),
                    running: self.running == id,
                    size: 40 << 20,
                    ..Slot::default()
                };
                let mut slots = vec![slot("stele_1.0.0", SlotState::Good)];
                slots.extend(self.new.map(|state| slot(new, state)));
                let scheduled = self.waits.map(|slot| Scheduled {
                    slot: slot.to_owned(),
                    at: Some(prost_types::Timestamp { seconds: 32_500_000_000, nanos: 0 }),
                });
                Reply::one(&StatusResponse {
                    slots,
                    esp_free: 400 << 20,
                    esp_size: 512 << 20,
                    scheduled,
                    floor: "1.0.0".to_owned(),
                })
            }
            _ => unknown(path),
        }
    }
}

fn machine(fails: bool) -> (User, Node, Arc<Mutex<Machine>>) {
    let state = Arc::new(Mutex::new(Machine {
        boots: 1,
        running: "stele_1.0.0",
        new: None,
        looks: 0,
        fails,
        image: 0,
        breaks: 0,
        waits: None,
    }));
    let shared = Arc::clone(&state);
    let (user, node) = fleet("web1", move |path, body| shared.lock().unwrap().answer(path, &body));
    fs::write(user.path("stele.efi"), [b"MZ".as_slice(), &vec![7; 3_000_000]].concat()).unwrap();
    // Any signature will do: it is the node that judges it.
    let signature = "MEQCIHlD8mWyOUbP/ej9uXZusQrVKEEpRBOplWtOxRKiRlsJAiBtbMlLaSwS5ZvAWPAlEKzbfeHlTX6VtMnEfbuL0IyHMg==";
    fs::write(user.path("stele.efi.sig"), signature).unwrap();
    (user, node, state)
}

#[test]
fn an_upgrade_is_followed_until_the_image_is_good() {
    let (user, _node, state) = machine(false);
    user.ctl(&["upgrade", "--image", "stele.efi"])
        .says(0, &["uploading 2.9 MiB", "runs 1.1.0 (was 1.0.0); stele_1.1.0 is good"]);
    assert!(state.lock().unwrap().image > 3_000_000);
    user.ctl(&["slots"]).says(0, &["stele_1.1.0  1.1.0    good   yes", "400.0 MiB of 512.0 MiB"]);
}

#[test]
fn an_image_that_went_back_is_a_failure() {
    let (user, _node, _state) = machine(true);
    user.ctl(&["upgrade", "--image", "stele.efi"])
        .says(1, &["went back", "runs 1.0.0", "which is bad", "--boot -1"]);
}

#[test]
fn staging_is_not_upgrading() {
    let (user, _node, state) = machine(false);
    user.ctl(&["upgrade", "--image", "stele.efi", "--stage-only"])
        .says(0, &["ctl upgrade --slot stele_1.1.0"]);
    assert_eq!(state.lock().unwrap().boots, 1);
    user.ctl(&["upgrade", "--slot", "stele_1.1.0"]).says(0, &["is good"]);
    fs::write(user.path("text"), "hello").unwrap();
    user.ctl(&["upgrade", "--image", "text"]).says(2, &["is no UKI"]);
}

#[test]
fn an_upload_that_breaks_off_goes_on_where_the_node_says() {
    let (user, _node, state) = machine(false);
    state.lock().unwrap().breaks = 2;
    user.ctl(&["upgrade", "--image", "stele.efi", "--stage-only"]).says(
        0,
        &["uploading broke off, trying again: the power went", "ctl upgrade --slot stele_1.1.0"],
    );
    // Two million that the first two brought, and the last of three, in its chunks.
    let image = state.lock().unwrap().image;
    assert!((3_000_002..3_000_100).contains(&image), "{image}");
}

#[test]
fn an_image_without_a_signature_goes_nowhere() {
    let (user, _node, state) = machine(false);
    fs::remove_file(user.path("stele.efi.sig")).unwrap();
    user.ctl(&["upgrade", "--image", "stele.efi"]).says(2, &["stele.efi.sig", "image sign --key"]);
    assert_eq!(state.lock().unwrap().image, 0);
}

#[test]
fn an_upgrade_that_waits_is_shown_and_cancelled() {
    let (user, _node, state) = machine(false);
    user.ctl(&["upgrade", "--registry", "host/os:1.1.0", "--at", "2999-11-22T19:46:40Z"])
        .says(0, &["moves to stele_1.1.0 at 2999-11-22T19:46:40Z"]);
    user.ctl(&["slots"]).says(0, &["Moves to stele_1.1.0 at 2999-", "Nothing older than 1.0.0"]);
    user.ctl(&["upgrade", "--cancel"]).says(0, &["stele_1.1.0 waits no more; it stays staged"]);
    user.ctl(&["upgrade", "--cancel"]).says(0, &["no upgrade was waiting"]);
    user.ctl(&["upgrade", "--url", "http://host/stele.efi", "--no-reboot"])
        .says(0, &["the next reboot moves to stele_1.1.0"]);
    assert_eq!(state.lock().unwrap().boots, 1);
}
