// SPDX-License-Identifier: Apache-2.0
//! Whether a machine is still the instance that its platform took it for, when it got its configuration.
//!
//! A platform gives each machine a name for as long as it is the same one. A disk that starts under another name is a copy, or
//! was put into another machine: it is another machine's first boot.

use serde::{Deserialize, Serialize};

/// What a platform calls a machine, and where it says so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// The platform.
    pub platform: String,
    /// The source of configuration that says it.
    pub source: String,
    /// The name.
    pub id: String,
    /// Whether it was taken for want of a better one: what the firmware says in place of a source that says nothing, or what is
    /// asked once only.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub assumed: bool,
    /// What the firmware calls the machine, where a stranger may be taken for the source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub firmware: Option<String>,
}

/// Which instance a machine is, judged by those that it is known to have been.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The one that it was.
    Same,
    /// Nobody has said so far, or not as surely.
    Unheard,
    /// Another one than this.
    Another(String),
}

/// Judges. What is only assumed of a source that has said something before, or the other way round, says nothing: the source
/// may be silent for a while, or begin to speak. A source that has never said anything counts only if it is of another platform:
/// a drive that is put in later does not make another machine of one that a metadata service has configured. A source that may be
/// a stranger is not believed for as long as the firmware says the same as before.
#[must_use]
pub fn judge(kept: &[Instance], now: &Instance) -> Verdict {
    let mut here = kept.iter().filter(|kept| kept.platform == now.platform);
    let same = here.clone().find(|kept| kept.source == now.source);
    match (same, kept.last()) {
        (Some(kept), _) if kept == now || now.assumed && !kept.assumed => Verdict::Same,
        (Some(kept), _) if kept.firmware.is_some() && kept.firmware == now.firmware => {
            Verdict::Same
        }
        (Some(kept), _) if kept.id == now.id || kept.assumed && !now.assumed => Verdict::Unheard,
        (Some(kept), _) => Verdict::Another(kept.id.clone()),
        // The same machine, on a platform that this image has another name for. The name is left as it is: the image before,
        // to which a trial may fall back, knows no other.
        (None, Some(last)) if last.source == now.source && last.id == now.id => Verdict::Same,
        (None, Some(last)) if here.next().is_none() => Verdict::Another(last.id.clone()),
        (None, _) => Verdict::Unheard,
    }
}

/// Judges by a source that has user-data, behind one, `before`, that has none and may say which instance this is all the same. As
/// that decides nothing, it counts only for a source that has never said anything.
#[must_use]
pub fn judge_behind(kept: &[Instance], before: Option<&Instance>, now: &Instance) -> Verdict {
    match (judge(kept, now), before.map(|before| judge(kept, before))) {
        (Verdict::Unheard, Some(another @ Verdict::Another(_))) => another,
        (verdict, _) => verdict,
    }
}

/// What is kept from now on. Of the same instance that is what was kept before, which may say more; of other platforms it is
/// nothing: the machine is there no more.
#[must_use]
pub fn keep(kept: &[Instance], now: Instance) -> Vec<Instance> {
    if judge(kept, &now) == Verdict::Same {
        return kept.to_vec();
    }
    let others =
        kept.iter().filter(|kept| kept.platform == now.platform && kept.source != now.source);
    others.cloned().chain([now.clone()]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance(platform: &str, source: &str, id: &str) -> Instance {
        let (platform, source, id) = (platform.to_owned(), source.to_owned(), id.to_owned());
        Instance { platform, source, id, assumed: false, firmware: None }
    }

    #[test]
    fn what_is_assumed_is_held_against_nothing_but_itself() {
        let said = |id| instance("vmware", "guestinfo", id);
        let assumed = |id| Instance { assumed: true, ..said(id) };
        let judged = |kept: Instance, now: &Instance| judge(&[kept], now);
        assert_eq!(judged(said("iid-1"), &assumed("uuid-1")), Verdict::Same);
        assert_eq!(judged(assumed("uuid-1"), &said("iid-1")), Verdict::Unheard);
        assert_eq!(judged(assumed("uuid-1"), &assumed("uuid-1")), Verdict::Same);
        assert_eq!(keep(&[said("iid-1")], assumed("uuid-1")), [said("iid-1")]);
        let another = Verdict::Another("uuid-1".to_owned());
        assert_eq!(judged(assumed("uuid-1"), &assumed("uuid-2")), another);
        // An image before this one knows nothing of it.
        let text = serde_json::to_string(&said("iid-1")).unwrap();
        assert!(!text.contains("assumed"), "{text}");
        assert_eq!(serde_json::from_str::<Instance>(&text).unwrap(), said("iid-1"));
    }

    #[test]
    fn what_a_folder_says_once_is_not_held_against_what_is_told_beside_it_later() {
        let told = |id| instance("qemu", "url", id);
        let in_folder = Instance { assumed: true, ..told("iid-there") };
        let kept = [in_folder];
        assert_eq!(judge(&kept, &told("vm1")), Verdict::Unheard);
        assert_eq!(judge(&kept, &told("iid-there")), Verdict::Unheard);
        let moved = judge(&kept, &instance("aws", "metadata", "i-1"));
        assert_eq!(moved, Verdict::Another("iid-there".to_owned()));
        let kept = keep(&kept, told("vm1"));
        assert_eq!(judge(&kept, &told("vm1")), Verdict::Same);
        assert_eq!(judge(&kept, &told("vm2")), Verdict::Another("vm1".to_owned()));
    }

    #[test]
    fn who_has_no_user_data_leaves_it_to_the_one_behind() {
        let service = |id| instance("aws", "metadata", id);
        let told = |id| instance("aws", "url", id);
        let kept = [service("i-1"), told("vm1")];
        let judged = |it, now| judge_behind(&kept, Some(&service(it)), &told(now));
        assert_eq!(judged("i-1", "vm1"), Verdict::Same);
        assert_eq!(judged("i-2", "vm1"), Verdict::Same);
        let another = Verdict::Another("vm1".to_owned());
        assert_eq!(judged("i-1", "vm2"), another);
        assert_eq!(judge_behind(&kept, None, &told("vm2")), another);
        // Nobody has told anything before.
        let judged = |it| judge_behind(&kept[..1], Some(&service(it)), &told("vm1"));
        assert_eq!(judged("i-1"), Verdict::Unheard);
        assert_eq!(judged("i-2"), Verdict::Another("i-1".to_owned()));
    }

    #[test]
    fn a_stranger_makes_no_other_machine_of_one_whose_firmware_says_the_same() {
        let said = |id, firmware: &str| {
            let firmware = Some(firmware.to_owned());
            Instance { firmware, ..instance("cloudstack", "metadata", id) }
        };
        let kept = [said("vm-1", "uuid-1")];
        assert_eq!(judge(&kept, &said("vm-1", "uuid-1")), Verdict::Same);
        assert_eq!(judge(&kept, &said("stranger", "uuid-1")), Verdict::Same);
        assert_eq!(keep(&kept, said("stranger", "uuid-1")), kept);
        let another = Verdict::Another("vm-1".to_owned());
        assert_eq!(judge(&kept, &said("vm-2", "uuid-2")), another);
        assert_eq!(judge(&kept, &instance("cloudstack", "metadata", "vm-2")), another);
        // The firmware of some hypervisors says something else at each start.
        assert_eq!(judge(&kept, &said("vm-1", "uuid-2")), Verdict::Unheard);
        // What an image before this one has kept says nothing of it.
        let kept = [instance("cloudstack", "metadata", "vm-1")];
        assert_eq!(judge(&kept, &said("vm-1", "uuid-1")), Verdict::Unheard);
        assert_eq!(judge(&kept, &said("vm-2", "uuid-1")), another);
    }

    #[test]
    fn a_machine_is_another_one_when_its_platform_says_so() {
        let kept = [instance("aws", "metadata", "i-1")];
        let judge = |now: &Instance| judge(&kept, now);
        assert_eq!(judge(&instance("aws", "metadata", "i-1")), Verdict::Same);
        assert_eq!(judge(&instance("aws", "metadata", "i-2")), Verdict::Another("i-1".to_owned()));
        assert_eq!(judge(&instance("aws", "cidata", "iid-1")), Verdict::Unheard);
        assert_eq!(judge(&instance("gcp", "metadata", "42")), Verdict::Another("i-1".to_owned()));
        assert_eq!(judge(&instance("gcp", "metadata", "i-1")), Verdict::Same);
        assert_eq!(super::judge(&[], &instance("gcp", "metadata", "42")), Verdict::Unheard);
    }

    #[test]
    fn each_source_is_kept_once_and_no_other_platform() {
        let kept = keep(&[], instance("aws", "metadata", "i-1"));
        let kept = keep(&kept, instance("aws", "cidata", "iid-1"));
        let kept = keep(&kept, instance("aws", "metadata", "i-2"));
        assert_eq!(kept, [instance("aws", "cidata", "iid-1"), instance("aws", "metadata", "i-2")]);
        assert_eq!(judge(&kept, &instance("aws", "metadata", "i-2")), Verdict::Same);
        let moved = instance("gcp", "metadata", "42");
        assert_eq!(keep(&kept, moved.clone()), [moved]);
    }
}
