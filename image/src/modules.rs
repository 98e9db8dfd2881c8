// SPDX-License-Identifier: Apache-2.0
//! Kernel modules: which ones an image ships, and the index files by which the running system finds them.
//!
//! The lists in `image/modules/` say what is wanted; `.modinfo` of each file says what that needs. Files are shipped
//! uncompressed (the squashfs compresses them better together) and otherwise untouched, so their signatures stay good.

use crate::deb::xz;
use crate::tree::Tree;
use anyhow::{Context, Result, bail, ensure};
use object::{Object, ObjectSection};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

/// The modules that stage one loads, in this order, before it can see the root.
pub const STAGE_ONE: [&str; 3] = ["efi_pstore", "loop", "squashfs"];

/// What a module says about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Info {
    depends: Vec<String>,
    aliases: Vec<String>,
    softdeps: Vec<String>,
}

/// A module on its way into the image.
#[derive(Debug)]
struct Module {
    /// `kernel/drivers/net/virtio_net.ko`
    path: String,
    data: Vec<u8>,
    info: Info,
}

/// The modules of a kernel that an image ships.
#[derive(Debug)]
pub struct Modules {
    /// By name, with `_` for `-`.
    shipped: BTreeMap<String, Module>,
    builtin: String,
}

/// The names of a list: words, `#` to the end of the line left out.
pub fn wanted(list: &str) -> impl Iterator<Item = &str> {
    list.lines().flat_map(|line| line.split('#').next().unwrap_or_default().split_whitespace())
}

impl Modules {
    /// Picks the wanted modules and all they need out of an unpacked kernel package. `folder` is `usr/lib/modules/RELEASE`.
    pub fn pick<'a>(
        package: &Tree,
        folder: &str,
        wanted: impl Iterator<Item = &'a str>,
    ) -> Result<Self> {
        let builtin = package
            .data(&format!("{folder}/modules.builtin"))
            .context("The kernel package has no modules.builtin")?;
        let builtin = String::from_utf8(builtin.to_vec())?;
        let builtins: BTreeSet<String> = builtin.lines().map(name_of).collect();
        let prefix = format!("{folder}/");
        let paths: BTreeMap<String, &str> = package
            .iter()
            .filter_map(|(path, _)| path.strip_prefix(&prefix))
            .filter(|path| path.contains(".ko"))
            .map(|path| (name_of(path), path))
            .collect();

        let mut pending = Vec::new();
        let mut missing = Vec::new();
        for word in wanted {
            if word.ends_with('/') {
                let before = pending.len();
                pending.extend(
                    paths
                        .iter()
                        .filter(|(_, path)| path.contains(word))
                        .map(|(name, _)| name.clone()),
                );
                if pending.len() == before {
                    missing.push(word.to_owned());
                }
                continue;
            }
            let name = word.replace('-', "_");
            if paths.contains_key(&name) {
                pending.push(name);
            } else if !builtins.contains(&name) {
                missing.push(word.to_owned());
            }
        }
        ensure!(
            missing.is_empty(),
            "Picking kernel modules: this kernel has no {}. Correct the lists in image/modules/.",
            missing.join(", ")
        );

        let mut shipped: BTreeMap<String, Module> = BTreeMap::new();
        while let Some(name) = pending.pop() {
            if shipped.contains_key(&name) || builtins.contains(&name) {
                continue;
            }
            let Some(path) = paths.get(&name) else {
                bail!("A module needs {name}, which this kernel does not have")
            };
            let packed = package
                .data(&format!("{prefix}{path}"))
                .with_context(|| format!("{path} is no file"))?;
            let data = unpack(path, packed)?;
            let info = read_info(&data).with_context(|| format!("Reading .modinfo of {path}"))?;
            pending.extend(info.depends.iter().cloned());
            // Soft dependencies may name aliases ("crc32c"); those that name a module come along.
            pending.extend(info.softdep_names().filter(|soft| paths.contains_key(soft)));
            let path = path.trim_end_matches(".xz").trim_end_matches(".zst").to_owned();
            shipped.insert(name, Module { path, data, info });
        }
        Ok(Self { shipped, builtin })
    }

    /// The modules and their index files, to stand below `folder` in the root.
    #[must_use]
    pub fn into_tree(self, folder: &str) -> Tree {
        let mut tree = Tree::default();
        for (file, text) in [
            ("modules.dep", self.dep()),
            ("modules.alias", self.alias()),
            ("modules.softdep", self.softdep()),
            ("modules.builtin", self.builtin),
        ] {
            tree.file(&format!("{folder}/{file}"), 0o644, text.into_bytes());
        }
        for module in self.shipped.into_values() {
            tree.file(&format!("{folder}/{}", module.path), 0o644, module.data);
        }
        tree
    }

    /// The path of each module that stage one loads, in the order in which it must load them.
    pub fn stage_one(&self) -> Result<Vec<&str>> {
        let mut order = Vec::new();
        for name in STAGE_ONE {
            let module = self.shipped.get(name).with_context(|| {
                format!("Stage one needs the module {name}; it is not in the lists")
            })?;
            let needed = self.needed(name);
            for path in needed
                .iter()
                .rev()
                .map(|name| self.shipped[name].path.as_str())
                .chain([module.path.as_str()])
            {
                if !order.contains(&path) {
                    order.push(path);
                }
            }
        }
        Ok(order)
    }

    /// `path: dependency…`, as depmod writes it: each module after (that is, left of) those it needs.
    fn dep(&self) -> String {
        self.shipped
            .iter()
            .map(|(name, module)| {
                let needed: Vec<&str> =
                    self.needed(name).iter().map(|name| self.shipped[name].path.as_str()).collect();
                format!(
                    "{}:{}{}\n",
                    module.path,
                    if needed.is_empty() { "" } else { " " },
                    needed.join(" ")
                )
            })
            .collect()
    }

    fn alias(&self) -> String {
        let lines = self.shipped.iter().flat_map(|(name, module)| {
            module.info.aliases.iter().map(move |alias| format!("alias {alias} {name}\n"))
        });
        lines.collect()
    }

    fn softdep(&self) -> String {
        let lines = self.shipped.iter().flat_map(|(name, module)| {
            module.info.softdeps.iter().map(move |soft| format!("softdep {name} {soft}\n"))
        });
        lines.collect()
    }

    /// All that a module needs, such that loading from the last to the first works.
    fn needed(&self, name: &str) -> Vec<String> {
        fn visit(modules: &BTreeMap<String, Module>, name: &str, order: &mut Vec<String>) {
            let Some(module) = modules.get(name) else { return };
            for dependency in &module.info.depends {
                visit(modules, dependency, order);
            }
            if !order.iter().any(|known| known == name) {
                order.push(name.to_owned());
            }
        }
        let mut order = Vec::new();
        visit(&self.shipped, name, &mut order);
        order.retain(|known| known != name && self.shipped.contains_key(known));
        order.reverse();
        order
    }
}

impl Info {
    fn softdep_names(&self) -> impl Iterator<Item = String> {
        self.softdeps
            .iter()
            .flat_map(|line| line.split_whitespace())
            .filter(|word| !word.ends_with(':'))
            .map(|word| word.replace('-', "_"))
    }
}

/// `kernel/drivers/char/hw_random/virtio-rng.ko.xz` → `virtio_rng`
fn name_of(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.split(".ko").next().unwrap_or(file).replace('-', "_")
}

fn unpack(path: &str, packed: &[u8]) -> Result<Vec<u8>> {
    let mut data = Vec::new();
    match path.rsplit('.').next() {
        Some("xz") => {
            xz(packed).read_to_end(&mut data).with_context(|| format!("Decompressing {path}"))?
        }
        Some("zst") => zstd::Decoder::new(packed)?
            .read_to_end(&mut data)
            .with_context(|| format!("Decompressing {path}"))?,
        _ => {
            data.extend_from_slice(packed);
            data.len()
        }
    };
    Ok(data)
}

fn read_info(module: &[u8]) -> Result<Info> {
    let file = object::File::parse(module)?;
    let section = file.section_by_name(".modinfo").context("It has no section .modinfo")?;
    parse_info(section.data()?)
}

fn parse_info(section: &[u8]) -> Result<Info> {
    let mut info = Info::default();
    for field in section.split(|byte| *byte == 0) {
        let Some((key, value)) = std::str::from_utf8(field)?.split_once('=') else { continue };
        match key {
            "depends" => info
                .depends
                .extend(value.split(',').filter(|d| !d.is_empty()).map(|d| d.replace('-', "_"))),
            "alias" => info.aliases.push(value.to_owned()),
            "softdep" => info.softdeps.push(value.to_owned()),
            _ => {}
        }
    }
    Ok(info)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn module(path: &str, depends: &[&str]) -> Module {
        let depends = depends.iter().map(|name| (*name).to_owned()).collect();
        Module {
            path: path.to_owned(),
            data: Vec::new(),
            info: Info { depends, ..Info::default() },
        }
    }

    fn net() -> Modules {
        let shipped = [
            ("failover", module("kernel/net/core/failover.ko", &[])),
            ("net_failover", module("kernel/drivers/net/net_failover.ko", &["failover"])),
            ("virtio_net", module("kernel/drivers/net/virtio_net.ko", &["net_failover", "virtio"])),
        ];
        Modules {
            shipped: shipped.into_iter().map(|(name, m)| (name.to_owned(), m)).collect(),
            builtin: String::new(),
        }
    }

    #[test]
    fn a_dependency_line_loads_from_right_to_left() {
        let dep = net().dep();
        assert!(dep.contains(
            "kernel/drivers/net/virtio_net.ko: kernel/drivers/net/net_failover.ko kernel/net/core/failover.ko\n"
        ));
        assert!(dep.contains("kernel/net/core/failover.ko:\n"));
    }

    #[test]
    fn modinfo_is_read() {
        let info = parse_info(b"license=GPL\0alias=virtio:d00000001v*\0depends=net-failover,failover\0softdep=pre: crc32c-intel\0").unwrap();
        assert_eq!(info.depends, ["net_failover", "failover"]);
        assert_eq!(info.aliases, ["virtio:d00000001v*"]);
        assert_eq!(info.softdep_names().collect::<Vec<_>>(), ["crc32c_intel"]);
    }

    #[test]
    fn a_missing_module_is_named() {
        let mut tree = Tree::default();
        tree.file("m/modules.builtin", 0o644, *b"kernel/fs/ext4/ext4.ko\n");
        assert!(Modules::pick(&tree, "m", ["ext4"].into_iter()).is_ok());
        let error =
            Modules::pick(&tree, "m", ["ext4", "nope"].into_iter()).unwrap_err().to_string();
        assert!(error.contains("no nope"), "{error}");
    }

    #[test]
    fn lists_have_comments() {
        assert_eq!(
            wanted("# a\nloop squashfs # b\n\next4").collect::<Vec<_>>(),
            ["loop", "squashfs", "ext4"]
        );
    }
}
