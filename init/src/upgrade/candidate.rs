// SPDX-License-Identifier: Apache-2.0
//! What a new image thinks of the configuration in force: its own `configure` reads it, before the image is anywhere
//! near the ESP.
//!
//! An image that knows older versions of documents alone is asked about the configuration in those. If it takes that, the
//! generation is kept so, for the image to read when it starts; what can't be said in them is what it is refused for.
//!
//! The image's root file system is mounted from within the file that it arrived in, read-only, and its `configure` runs
//! as this image's would: the same user, the same filters, the same limits. Only images that a trusted key has signed
//! come this far.

use super::agent::Place;
use crate::{
    api::{Code, Refusal},
    configuration::{AcceptError, Active},
    node::Node,
    one_shot,
};
use serde_json::Value;
use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    rc::Rc,
    time::Duration,
};
use stele_config::{API_VERSIONS, Finding, canonical};
use stele_kernel::{
    loopdev,
    mount::{self, Forbid},
    process::Exit,
};

const TARGET: &str = "/run/stele/candidate";
const CONFIGURE: &str = "/run/stele/candidate/usr/lib/stele/configure";
const DEADLINE: Duration = Duration::from_secs(60);
const LARGEST_ANSWER: usize = 4 * 1024 * 1024;
/// How often, and after which pause, unmounting is tried while something still holds on.
const UNMOUNT_TRIES: u32 = 20;
const UNMOUNT_PAUSE: Duration = Duration::from_millis(50);

/// Programs may run from it; nothing else is different from data.
const FORBID: Forbid = Forbid { exec: false, ..Forbid::READ_ONLY };

/// Asks the image in this file, if there is a configuration to ask about.
///
/// # Errors
/// When the image does not accept it, or can't be asked.
pub(super) async fn ask(
    node: &Rc<Node>,
    version: &str,
    file: &Path,
    rootfs: Place,
) -> Result<(), Refusal> {
    let Some(active) = node.configuration.own() else { return Ok(()) };
    let broken = |why: String| {
        let message =
            format!("version {version} could not be asked about the configuration: {why}");
        Refusal::new(Code::FailedPrecondition, message)
    };
    let file = file.to_owned();
    blocking(move || mount_candidate(&file, rootfs))
        .await
        .map_err(|error| broken(format!("mounting its root file system: {error}")))?;
    let asked = ask_in_turn(&active, async |documents| run(node, documents).await).await;
    if let Err(error) = blocking(unmount_candidate).await {
        tracing::error!(error = %error, "unmounting the new image's root file system failed");
    }
    match asked.map_err(broken)? {
        Opinion::Accepted(documents) if documents == active.stored.documents => Ok(()),
        Opinion::Accepted(documents) => {
            let kept = node.configuration.keep_for_older(&active, documents).await;
            kept.map_err(|error| broken(crate::report::chain(&error)))
        }
        Opinion::Refused(findings) => Err(refuse(version, active.stored.number, findings)),
    }
}

/// What an image thinks.
#[derive(Debug)]
enum Opinion {
    /// It takes the configuration as these documents.
    Accepted(String),
    /// It finds this wrong.
    Refused(Vec<Finding>),
}

/// Asks about the configuration as it is kept, then, while versions are not known, in older ones.
async fn ask_in_turn(
    active: &Active,
    ask: impl AsyncFn(&str) -> Result<Vec<Finding>, String>,
) -> Result<Opinion, String> {
    let mut documents = active.stored.documents.clone();
    let mut findings = ask(&documents).await?;
    for older in API_VERSIONS.iter().rev().skip(1) {
        if !findings.iter().any(is_about_a_version) {
            break;
        }
        documents = match canonical::write_as(&active.config, older) {
            Ok(documents) => String::from_utf8_lossy(&documents).into_owned(),
            Err(lost) => return Ok(Opinion::Refused(lost)),
        };
        findings = ask(&documents).await?;
    }
    Ok(match findings.as_slice() {
        [] => Opinion::Accepted(documents),
        [..] => Opinion::Refused(findings),
    })
}

fn is_about_a_version(finding: &Finding) -> bool {
    finding.path == "apiVersion"
}

fn refuse(version: &str, generation: u64, findings: Vec<Finding>) -> Refusal {
    let refusal = Refusal::from(AcceptError::Invalid(findings));
    let lines = refusal.message.split_once('\n').map_or("", |(_, lines)| lines);
    let message = format!(
        "version {version} does not accept the machine's own configuration, generation {generation}:\n{lines}"
    );
    Refusal { code: Code::FailedPrecondition, message, details: refusal.details }
}

/// Lets the new image's program read the configuration: what it finds wrong, or why it didn't come to that.
async fn run(node: &Rc<Node>, documents: &str) -> Result<Vec<Finding>, String> {
    let documents = stream(documents)?;
    let unit = node.units.get("configure").ok_or("this image has no unit configure")?;
    let mut unit = unit.clone();
    unit.exec = vec![CONFIGURE.to_owned()];
    let output = one_shot::run_unit(
        node,
        "candidate",
        &unit,
        &[],
        documents.as_bytes(),
        LARGEST_ANSWER,
        DEADLINE,
    )
    .await
    .map_err(|error| crate::report::chain(&error))?;
    match output.exit {
        Exit::Code(0) => Ok(Vec::new()),
        Exit::Code(2) => {
            let mut findings: Vec<Finding> = serde_json::from_slice(&output.stdout)
                .map_err(|error| format!("its answer makes no sense: {error}"))?;
            if findings.is_empty() {
                return Err("it refuses it without a reason".to_owned());
            }
            // Lines would be those of the stream below, which nobody has ever seen.
            findings.iter_mut().for_each(|finding| finding.line = 0);
            Ok(findings)
        }
        exit => Err(format!("its configure {exit}: {}", output.complaint)),
    }
}

/// The canonical documents as the stream that `configure` reads: JSON is YAML.
fn stream(documents: &str) -> Result<String, String> {
    let documents: Vec<Value> = serde_json::from_str(documents)
        .map_err(|error| format!("the configuration in force can't be read: {error}"))?;
    Ok(documents.iter().map(|document| format!("---\n{document}\n")).collect())
}

async fn blocking(work: impl FnOnce() -> io::Result<()> + Send + 'static) -> io::Result<()> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}

fn mount_candidate(file: &Path, rootfs: Place) -> io::Result<()> {
    fs::create_dir_all(TARGET)?;
    // What an earlier attempt could not unmount.
    drop(mount::unmount(Path::new(TARGET), true));
    let image = File::open(file)?;
    // The device goes away with its last user: the mount, once there is one.
    let (device, _held): (PathBuf, File) =
        loopdev::attach_window(&image, rootfs.offset, rootfs.length)?;
    mount::mount(&device.to_string_lossy(), Path::new(TARGET), "squashfs", FORBID, "")
}

fn unmount_candidate() -> io::Result<()> {
    for _ in 0..UNMOUNT_TRIES {
        if mount::unmount(Path::new(TARGET), false).is_ok() {
            return Ok(());
        }
        std::thread::sleep(UNMOUNT_PAUSE);
    }
    mount::unmount(Path::new(TARGET), true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{fixture, state::Stored};

    #[test]
    fn documents_become_a_stream() {
        assert_eq!(
            stream(r#"[{"kind":"Host"},{"kind":"Link"}]"#).unwrap(),
            "---\n{\"kind\":\"Host\"}\n---\n{\"kind\":\"Link\"}\n"
        );
        assert!(stream("{").is_err());
    }

    /// What comes of asking an image that knows only the first version.
    async fn asked_older(document: &str) -> Opinion {
        let config = fixture::config(&[document]);
        let documents = String::from_utf8(canonical::write(&config)).unwrap();
        let stored = Stored { documents, ..Stored::default() };
        let active = Active { stored, config, persistent: true };
        let older = async |documents: &str| {
            let finding = Finding {
                document: 2,
                kind: "Link".into(),
                path: "apiVersion".into(),
                line: 0,
                message: "is text (\"stele/v2\")".into(),
                expected: "stele/v1".into(),
                warning: false,
            };
            Ok(if documents.contains("stele/v2") { vec![finding] } else { Vec::new() })
        };
        ask_in_turn(&active, older).await.unwrap()
    }

    #[tokio::test]
    async fn an_older_image_is_asked_in_the_versions_that_it_knows() {
        let link = r#""kind":"Link","name":"eth0","dhcp4":true"#;
        let Opinion::Accepted(documents) = asked_older(link).await else { panic!() };
        assert!(
            documents
                .contains(r#"{"apiVersion":"stele/v1","kind":"Link","name":"eth0","dhcp4":true}"#)
        );
        let same = canonical::read(documents.as_bytes()).unwrap();
        assert_eq!(same, fixture::config(&[link]));
    }

    #[tokio::test]
    async fn what_an_older_image_can_t_be_told_keeps_the_machine_from_it() {
        let link = r#""apiVersion":"stele/v2","kind":"Link","name":"up","match":{"mac":"52:54:00:12:34:56"}"#;
        let Opinion::Refused(findings) = asked_older(link).await else { panic!() };
        assert_eq!(
            refuse("0.9.0", 4, findings).message,
            "version 0.9.0 does not accept the machine's own configuration, generation 4:\n\
             document 2 (Link), match: can't be said of up in stele/v1, by which the machine takes the interface of the \
             document's name; expected a document without it"
        );
    }

    #[test]
    fn a_refusal_names_document_and_key() {
        let finding = Finding {
            document: 2,
            kind: "Link".into(),
            path: "mtu".into(),
            line: 0,
            message: "is not a key of this document".into(),
            expected: String::new(),
            warning: false,
        };
        let refusal = refuse("1.1.0", 4, vec![finding]);
        assert_eq!(
            refusal.message,
            "version 1.1.0 does not accept the machine's own configuration, generation 4:\n\
             document 2 (Link), mtu: is not a key of this document"
        );
        assert_eq!((refusal.code, refusal.details.len()), (Code::FailedPrecondition, 1));
    }
}
