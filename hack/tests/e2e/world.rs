// SPDX-License-Identifier: Apache-2.0
//! What all scenarios share: the image, its variants, and an operator.

use anyhow::{Context as _, Result, bail, ensure};
use hack::{
    artefacts::{Artefacts, top},
    json,
    machine::{Machine, copy_sparse},
    node::{BOOT, Node, Operator},
    tools::Tools,
    variants::Variants,
};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};
use tempfile::TempDir;

/// What all scenarios share.
#[derive(Debug)]
pub(crate) struct World {
    /// The image under test.
    pub(crate) artefacts: Artefacts,
    /// Its variants.
    pub(crate) variants: Variants,
    /// Programs that it is tried against.
    pub(crate) tools: Tools,
    /// Who runs it.
    pub(crate) operator: Operator,
    /// Whether there is time for all of it.
    pub(crate) thorough: bool,
    /// A configured node with a disk, which is off; others are copies of it.
    template: Mutex<Option<Node>>,
    /// What was measured on the way.
    figures: Mutex<Vec<String>>,
}

/// What the template's configuration says beside who it is: tests do not wait for an hour.
const HURRY: &str = "---
apiVersion: stele/v1
kind: UpgradePolicy
deadline: 30s
---
apiVersion: stele/v1
kind: Watchdog
timeout: 15s
";

impl World {
    pub(crate) fn new(thorough: bool) -> Result<Self> {
        // A thousand idle connections are as many descriptors here, and in QEMU.
        let limit = getrlimit(Resource::Nofile);
        setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })
            .context("Raising the limit on files")?;
        let artefacts = Artefacts::default_location();
        let variants = Variants::new(artefacts.dir().join("e2e"));
        let tools = Tools::new(artefacts.dir().join("tools"));
        let operator = Operator::new(&artefacts)?;
        let (template, figures) = (Mutex::default(), Mutex::default());
        Ok(Self { artefacts, variants, tools, operator, thorough, template, figures })
    }

    /// A node with a disk, configured, that answers: a copy of one that was set up once.
    pub(crate) fn settled(&self, label: &str) -> Result<Kept> {
        let node = self.resumed(label, |_| Ok(()))?;
        node.wait_until_it_answers()?;
        Ok(node)
    }

    /// The same, just switched on, with its disk changed before that.
    pub(crate) fn resumed(
        &self,
        label: &str,
        change: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<Kept> {
        self.resumed_as(label, change, Ok)
    }

    /// The same, with its machine changed too.
    pub(crate) fn resumed_as(
        &self,
        label: &str,
        change: impl FnOnce(&Path) -> Result<()>,
        finish: impl FnOnce(Machine) -> Result<Machine>,
    ) -> Result<Kept> {
        let scratch = scratch()?;
        let disk = scratch.path().join("disk.raw");
        let mut template = self.template.lock().unwrap_or_else(PoisonError::into_inner);
        if template.is_none() {
            *template = Some(self.set_up().context("Setting the template up")?);
        }
        let template = template.as_mut().context("There is a template")?;
        copy_sparse(&template.disk()?, &disk)?;
        change(&disk)?;
        let machine = Machine::from_disk(&self.artefacts, scratch.path(), disk)?.with_watchdog();
        let machine = finish(machine)?;
        let node = Node::resume(&self.operator, template, label, machine, scratch)?;
        Ok(Kept { node, label: label.to_owned() })
    }

    fn set_up(&self) -> Result<Node> {
        let mut node = self.unboxed("template", 2)?;
        let hurried = with_more(&node, HURRY)?;
        fs::rename(hurried, &node.files.machine)?;
        node.apply()?;
        node.wait_until_it_answers()?;
        node.ctl.run(["shutdown"])?;
        node.vm.wait_until_off(BOOT)?;
        // Who copies it next wants a disk that nobody writes to.
        ensure!(node.disk()?.exists());
        Ok(node)
    }

    /// Keeps a figure, to be printed when all is done.
    pub(crate) fn figure(&self, text: String) {
        self.figures.lock().unwrap_or_else(PoisonError::into_inner).push(text);
    }

    /// Prints the figures.
    pub(crate) fn print_figures(&self) {
        let mut figures = self.figures.lock().unwrap_or_else(PoisonError::into_inner).clone();
        figures.sort();
        for figure in figures {
            println!("figure: {figure}");
        }
    }

    /// A node without a disk, configured by fw_cfg, that answers.
    pub(crate) fn live(&self, name: &str) -> Result<Node> {
        self.live_from(&self.artefacts, name)
    }

    /// The same from other artefacts.
    pub(crate) fn live_from(&self, artefacts: &Artefacts, name: &str) -> Result<Node> {
        let machine = Machine::live(artefacts)?;
        let node = Node::start_configured(&self.operator, name, machine, scratch()?)?;
        node.wait_until_it_answers()?;
        Ok(node)
    }

    /// A machine with a disk that has just been switched on for the first time.
    pub(crate) fn unboxed(&self, name: &str, gib: u64) -> Result<Node> {
        let scratch = scratch()?;
        let machine = Machine::installed(&self.artefacts, scratch.path(), gib)?;
        Node::start(&self.operator, name, machine, scratch)
    }

    /// A node with a disk that was configured by hand, and answers.
    pub(crate) fn installed(&self, name: &str) -> Result<Node> {
        let node = self.unboxed(name, 4)?;
        node.apply()?;
        node.wait_until_it_answers()?;
        Ok(node)
    }
}

/// A folder for one machine.
pub(crate) fn scratch() -> Result<TempDir> {
    hack::scratch::folder("vm")
}

/// Keeps a console for whoever looks into a failure.
fn keep_console(node: &Node, label: &str) -> Result<()> {
    let dir = top().join("out/e2e/consoles");
    fs::create_dir_all(&dir)?;
    fs::copy(node.vm.console().path(), dir.join(format!("{label}.log")))
        .context("Keeping the console")?;
    Ok(())
}

/// A node whose console is kept when it goes away.
#[derive(Debug)]
pub(crate) struct Kept {
    node: Node,
    label: String,
}

/// A node whose console is kept under its name.
#[expect(non_snake_case, reason = "it reads as the value that it makes")]
pub(crate) fn Kept(node: Node) -> Kept {
    let label = node.name.clone();
    Kept { node, label }
}

impl Kept {
    /// What its files are called.
    pub(crate) fn label(&self) -> &str {
        &self.label
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if let Err(error) = keep_console(&self.node, &self.label) {
            println!("{error:#}");
        }
    }
}

impl std::ops::Deref for Kept {
    type Target = Node;
    fn deref(&self) -> &Node {
        &self.node
    }
}

impl std::ops::DerefMut for Kept {
    fn deref_mut(&mut self) -> &mut Node {
        &mut self.node
    }
}

/// Every resource of a kind, as `ctl get KIND -o json` prints them.
pub(crate) fn resources(node: &Node, kind: &str) -> Result<Vec<Value>> {
    let printed = node.ctl.json(["get", kind])?;
    let mut found = Vec::new();
    collect(&printed, &mut found);
    Ok(found)
}

fn collect(value: &Value, found: &mut Vec<Value>) {
    match value {
        Value::Object(map) if map.contains_key("status") && map.contains_key("name") => {
            found.push(value.clone());
        }
        Value::Object(map) => map.values().for_each(|value| collect(value, found)),
        Value::Array(values) => values.iter().for_each(|value| collect(value, found)),
        _ => {}
    }
}

/// The resource of this name.
pub(crate) fn resource(node: &Node, kind: &str, name: &str) -> Result<Value> {
    let all = resources(node, kind)?;
    let found = all.iter().find(|resource| resource["name"] == name).cloned();
    found.with_context(|| format!("There is no {kind} {name} among {}", Value::from(all)))
}

/// A field of a resource's status, as text.
pub(crate) fn field(resource: &Value, name: &str) -> Result<String> {
    json::text(&resource["status"], name).with_context(|| format!("No {name} in {resource}"))
}

/// Fails unless `text` holds every needle, in any case.
pub(crate) fn says(text: &str, needles: &[&str]) -> Result<()> {
    let lower = text.to_lowercase();
    for needle in needles {
        if !lower.contains(&needle.to_lowercase()) {
            let end: String = text.chars().rev().take(2000).collect();
            bail!("It does not say {needle:?}; its end: {}", end.chars().rev().collect::<String>());
        }
    }
    Ok(())
}

/// What the running version of the image is.
pub(crate) fn version(node: &Node) -> Result<String> {
    let printed = node.ctl.json(["version"])?;
    let nodes = json::find(&printed, "nodes").unwrap_or(&printed);
    // The client's own version may stand beside the nodes'.
    json::find(nodes, "boot_id").context("No answer of a node")?;
    version_beside_boot_id(&printed).context("No version beside the boot id")
}

fn version_beside_boot_id(value: &Value) -> Option<String> {
    match value {
        Value::Object(map) => {
            let here = map.contains_key("boot_id") || map.contains_key("bootId");
            let version = map.get("version").and_then(Value::as_str).filter(|_| here);
            version.map(str::to_owned).or_else(|| map.values().find_map(version_beside_boot_id))
        }
        Value::Array(values) => values.iter().find_map(version_beside_boot_id),
        _ => None,
    }
}

/// The mode that a node says it is in, in lower case.
pub(crate) fn mode(node: &Node) -> Result<String> {
    let printed = node.ctl.json(["version"])?;
    Ok(json::text(&printed, "mode").unwrap_or_default().to_lowercase())
}

/// Waits until nothing is on trial any more.
pub(crate) fn settle(node: &Node) -> Result<()> {
    node.wait_until("nothing is on trial any more", 2 * BOOT, || {
        let Ok(gates) = resources(node, "gate") else { return Ok(false) };
        let state = gates.first().and_then(|gate| field(gate, "state").ok());
        Ok(state.is_none_or(|state| state == "passed" || state == "none"))
    })
}

/// The configuration of a node with a line changed or added.
pub(crate) fn with_more(node: &Node, more: &str) -> Result<PathBuf> {
    let mut text = fs::read_to_string(&node.files.machine)?;
    ensure!(text.contains("kind: Identity"), "The configuration has no Identity");
    text.push_str(more);
    let path = node.files.machine.with_file_name("changed.yaml");
    fs::write(&path, text)?;
    Ok(path)
}

/// A configuration without the name of its machine, which has to come from somewhere else then.
pub(crate) fn nameless(configuration: &Path) -> Result<String> {
    let text = fs::read_to_string(configuration)?;
    let (named, others): (Vec<&str>, Vec<&str>) =
        text.split("\n---\n").partition(|document| document.contains("kind: Hostname"));
    ensure!(named.len() == 1, "The configuration has {} names", named.len());
    Ok(format!("{}\n", others.join("\n---\n").trim_end()))
}

/// Fails unless this is the node's name, and it has it from there.
pub(crate) fn is_named(node: &Node, name: &str, origin: &str) -> Result<()> {
    let hostname = resource(node, "hostname", "hostname")?;
    let found = (field(&hostname, "hostname")?, field(&hostname, "origin")?);
    ensure!(found == (name.to_owned(), origin.to_owned()), "{hostname}");
    Ok(())
}

/// Writes `certificate.pem` of this name and its `key.pem` into a folder. Returns the certificate of who signed it, in PEM.
pub(crate) fn certificates(folder: &TempDir, name: &str) -> Result<String> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate()?;
    let authority = params.self_signed(&key)?.pem();
    let issuer = Issuer::new(params, key);
    let params = CertificateParams::new(vec![name.to_owned()])?;
    let key = KeyPair::generate()?;
    fs::write(folder.path().join("certificate.pem"), params.signed_by(&key, &issuer)?.pem())?;
    fs::write(folder.path().join("key.pem"), key.serialize_pem())?;
    Ok(authority)
}
