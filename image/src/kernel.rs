// SPDX-License-Identifier: Apache-2.0
//! The kernel of a profile: the image itself, the modules that we ship, and those that stage one loads.

use crate::cache::Cache;
use crate::deb;
use crate::modules::{Modules, STAGE_ONE, wanted};
use crate::tree::{Node, Tree};
use anyhow::{Context, Result};
use std::path::Path;

const MODULES: &str = "usr/lib/modules";

/// A kernel, ready to be put into images.
#[derive(Debug)]
pub struct Kernel {
    /// Its release, as `uname -r` has it.
    pub release: String,
    /// The bzImage.
    pub image: Vec<u8>,
    /// The modules and their indexes, as they stand in the root.
    pub modules: Tree,
    /// What stage one loads, in order: file name and content.
    pub stage_one: Vec<(String, Vec<u8>)>,
}

impl Kernel {
    /// Unpacks a kernel package, or takes what was made of it before. `lists` are the lists of wanted modules.
    pub fn load(package: &Path, digest: &str, lists: &[String], cache: &Cache) -> Result<Self> {
        let lists = lists.join("\n");
        let inputs = [digest, &lists, &STAGE_ONE.join(" ")];
        let tree = cache.tree("kernel", &inputs, || unpack(package, &lists))?;
        Self::from_tree(tree)
    }

    fn from_tree(tree: Tree) -> Result<Self> {
        let mut kernel = Self {
            release: String::new(),
            image: Vec::new(),
            modules: Tree::default(),
            stage_one: Vec::new(),
        };
        for (path, node) in tree.iter() {
            let Node::File { mode, data } = node else { continue };
            if let Some(name) = path.strip_prefix("stage-one/") {
                let name = name.split_once('-').map_or(name, |(_, name)| name);
                kernel.stage_one.push((name.to_owned(), data.to_vec()));
            } else if path == "vmlinuz" {
                kernel.image = data.to_vec();
            } else if path == "release" {
                kernel.release = String::from_utf8(data.to_vec())?;
            } else {
                kernel.modules.file(path, *mode, data.clone());
            }
        }
        Ok(kernel)
    }
}

fn unpack(package: &Path, lists: &str) -> Result<Tree> {
    let files = deb::unpack(package, |path| {
        path.starts_with("boot/vmlinuz-") || path.starts_with(MODULES)
    })?;
    let (path, release) = files
        .iter()
        .find_map(|(path, _)| Some((path, path.strip_prefix("boot/vmlinuz-")?)))
        .with_context(|| {
            format!("{} holds no boot/vmlinuz-*, so it is no kernel package", package.display())
        })?;
    let folder = format!("{MODULES}/{release}");
    let modules = Modules::pick(&files, &folder, wanted(lists))?;
    let stage_one: Vec<String> = modules.stage_one()?.into_iter().map(str::to_owned).collect();

    let mut tree = modules.into_tree(&folder);
    for (number, module) in stage_one.iter().enumerate() {
        let name = module.rsplit('/').next().unwrap_or(module);
        let data = tree
            .data(&format!("{folder}/{module}"))
            .context("A module of stage one is not shipped")?
            .to_vec();
        tree.file(&format!("stage-one/{number:02}-{name}"), 0o644, data);
    }
    tree.file("vmlinuz", 0o644, files.data(path).context("The kernel is no file")?.to_vec());
    tree.file("release", 0o644, release.as_bytes().to_vec());
    Ok(tree)
}
