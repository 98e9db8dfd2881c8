// SPDX-License-Identifier: Apache-2.0
//! Which kernel modules a device needs, and in which order: modules.dep(5), and the `alias` and `softdep` lines of
//! modprobe.d(5).

use std::collections::{BTreeSet, HashMap, HashSet};

/// What an image's modules say of themselves.
#[derive(Debug, Default)]
pub struct Index {
    /// Name → file, and the files it needs, the last one first.
    files: HashMap<String, (String, Vec<String>)>,
    /// The part of a pattern before its first colon or wildcard → patterns and modules.
    aliases: HashMap<String, Vec<(String, String)>>,
    /// Name → modules to load before it, when they are there.
    before: HashMap<String, Vec<String>>,
    /// Names of modules that are part of the kernel.
    built_in: HashSet<String>,
}

impl Index {
    /// Reads the four files.
    #[must_use]
    pub fn parse(dep: &str, alias: &str, softdep: &str, builtin: &str) -> Index {
        let built_in = builtin.lines().map(name_of).collect();
        let mut index = Index { built_in, ..Index::default() };
        for (file, needs) in dep.lines().filter_map(|line| line.split_once(':')) {
            let needs = needs.split_whitespace().map(str::to_owned).collect();
            index.files.insert(name_of(file), (file.to_owned(), needs));
        }
        for line in alias.lines() {
            let mut words = line.split_whitespace();
            if let (Some("alias"), Some(pattern), Some(module)) =
                (words.next(), words.next(), words.next())
            {
                let entry = (pattern.to_owned(), module.replace('-', "_"));
                index.aliases.entry(bucket(pattern)).or_default().push(entry);
            }
        }
        for line in softdep.lines() {
            let mut words = line.split_whitespace();
            if let (Some("softdep"), Some(module)) = (words.next(), words.next()) {
                let before = words
                    .skip_while(|word| *word != "pre:")
                    .skip(1)
                    .take_while(|word| *word != "post:");
                index.before.insert(
                    module.replace('-', "_"),
                    before.map(|name| name.replace('-', "_")).collect(),
                );
            }
        }
        index
    }

    /// The modules that say they drive a device with this modalias.
    #[must_use]
    pub fn modules_for(&self, modalias: &str) -> Vec<String> {
        let candidates = self.aliases.get(&bucket(modalias)).map(Vec::as_slice).unwrap_or_default();
        candidates
            .iter()
            .filter(|(pattern, _)| matches(pattern.as_bytes(), modalias.as_bytes()))
            .map(|(_, module)| module.clone())
            .collect()
    }

    /// Whether a module is part of the kernel.
    #[must_use]
    pub fn is_built_in(&self, name: &str) -> bool {
        self.built_in.contains(&name.replace('-', "_"))
    }

    /// The modules of the image, in no order.
    #[must_use]
    pub fn names(&self) -> Vec<&str> {
        self.files.keys().map(String::as_str).collect()
    }

    /// A module and all that it needs, in the order to load them: (name, file). Empty when there is no such module: it
    /// is built into the kernel, or not part of the image.
    #[must_use]
    pub fn in_order(&self, name: &str) -> Vec<(String, String)> {
        let mut order = Vec::new();
        self.add(&name.replace('-', "_"), &mut order, 0);
        order
    }

    fn add(&self, name: &str, order: &mut Vec<(String, String)>, depth: u32) {
        // Soft dependencies may form a circle.
        if depth > 16 || order.iter().any(|(listed, _)| listed == name) {
            return;
        }
        let Some((file, needs)) = self.files.get(name) else { return };
        for earlier in self.before.get(name).into_iter().flatten() {
            self.add(earlier, order, depth.saturating_add(1));
        }
        for needed in needs.iter().rev() {
            self.add(&name_of(needed), order, depth.saturating_add(1));
        }
        if !order.iter().any(|(listed, _)| listed == name) {
            order.push((name.to_owned(), file.clone()));
        }
    }
}

/// Which parameters a module says it has: the `parmtype` lines of its `.modinfo`.
#[must_use]
pub fn parameters(module: &[u8]) -> BTreeSet<String> {
    let lines = module.split(|byte| *byte == 0).filter_map(|line| line.strip_prefix(b"parmtype="));
    let keys = lines.filter_map(|line| line.split(|byte| *byte == b':').next());
    keys.filter_map(|key| std::str::from_utf8(key).ok()).map(str::to_owned).collect()
}

/// The module's name in a path: no folder, no suffix, and `_` for `-`.
fn name_of(file: &str) -> String {
    let name = file.rsplit('/').next().unwrap_or(file);
    name.split('.').next().unwrap_or(name).replace('-', "_")
}

/// Both a pattern and what it matches begin the same up to here.
fn bucket(text: &str) -> String {
    text.split([':', '*', '?', '[']).next().unwrap_or_default().to_owned()
}

/// fnmatch(3) without flags: `*`, `?` and `[…]`.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut read) = (0, 0);
    // Where to go on when what followed the last `*` did not fit: one byte more for the `*`.
    let mut retry: Option<(usize, usize)> = None;
    loop {
        let step = match pattern.get(at) {
            None if read == text.len() => return true,
            Some(b'*') => {
                retry = Some((at.saturating_add(1), read));
                at = at.saturating_add(1);
                continue;
            }
            Some(b'[') => {
                text.get(read).and_then(|byte| class(pattern.get(at..).unwrap_or_default(), *byte))
            }
            Some(b'?') => text.get(read).map(|_| 1),
            Some(literal) => text.get(read).filter(|byte| *byte == literal).map(|_| 1),
            None => None,
        };
        match (step, &mut retry) {
            (Some(length), _) => {
                at = at.saturating_add(length);
                read = read.saturating_add(1);
            }
            (None, Some((after_star, from))) if *from < text.len() => {
                *from = from.saturating_add(1);
                (at, read) = (*after_star, *from);
            }
            (None, _) => return false,
        }
    }
}

/// Whether a byte is in the class `[…]` that the pattern begins with; then the class's length.
fn class(pattern: &[u8], byte: u8) -> Option<usize> {
    let end = pattern.iter().position(|byte| *byte == b']')?;
    let mut members = pattern.get(1..end)?;
    let negated = members.first() == Some(&b'!');
    if negated {
        members = members.get(1..)?;
    }
    let mut found = false;
    while let Some((first, rest)) = members.split_first() {
        if let [b'-', last, more @ ..] = rest {
            found |= (*first..=*last).contains(&byte);
            members = more;
        } else {
            found |= *first == byte;
            members = rest;
        }
    }
    (found != negated).then_some(end.saturating_add(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DEP: &str = "kernel/net/failover.ko:\nkernel/drivers/net/net_failover.ko: kernel/net/failover.ko\n\
        kernel/drivers/net/virtio_net.ko: kernel/drivers/net/net_failover.ko kernel/net/failover.ko\n\
        kernel/crypto/crc32c-intel.ko:\nkernel/fs/xfs/xfs.ko:\n";
    const ALIAS: &str = "alias virtio:d00000001v* virtio_net\nalias pci:v00008086d*sv*sd*bc02sc00i* e1000e\n\
        alias acpi*:QEMU0002:* qemu_fw_cfg\n";
    const SOFTDEP: &str = "softdep xfs pre: crc32c-intel missing\n";

    #[test]
    fn a_device_finds_its_module_and_all_it_needs() {
        let index = Index::parse(DEP, ALIAS, SOFTDEP, "kernel/fs/ext4/ext4.ko\n");
        assert_eq!(index.modules_for("virtio:d00000001v00001AF4"), ["virtio_net"]);
        assert_eq!(index.modules_for("virtio:d00000002v00001AF4"), [""; 0]);
        assert_eq!(index.modules_for("acpi:QEMU0002:"), ["qemu_fw_cfg"]);
        let names =
            |name: &str| index.in_order(name).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        assert_eq!(names("virtio-net"), ["failover", "net_failover", "virtio_net"]);
        assert_eq!(names("xfs"), ["crc32c_intel", "xfs"]);
        assert_eq!(names("ext4"), [""; 0]);
        assert!(index.is_built_in("ext4") && !index.is_built_in("xfs"));
    }

    #[test]
    fn a_module_says_which_parameters_it_has() {
        let module = b"\x7fELF\0license=GPL\0parm=a:what it is\0parmtype=a:int\0parmtype=b:array of charp\0\xff";
        assert_eq!(parameters(module), BTreeSet::from(["a".to_owned(), "b".to_owned()]));
        assert_eq!(parameters(b""), BTreeSet::new());
    }

    #[test]
    fn patterns_match_as_in_the_shell() {
        for (pattern, text, expected) in [
            ("pci:v00008086d*sv*sd*bc02sc00i*", "pci:v00008086d000010D3sv0sd0bc02sc00i00", true),
            ("pci:v00008086d*sv*sd*bc02sc00i*", "pci:v00008086d000010D3sv0sd0bc03sc00i00", false),
            ("a[0-9]c", "a5c", true),
            ("a[!0-9]c", "a5c", false),
            ("a?c", "abc", true),
            ("*", "", true),
            ("a*b*c", "axxbyyc", true),
            ("a*b*c", "axxbyy", false),
            ("[", "[", false),
        ] {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} {text}");
        }
    }

    proptest! {
        #[test]
        fn matching_always_ends(pattern in "[a*?\\[\\]!-]{0,20}", text in "[a-c]{0,40}") {
            matches(pattern.as_bytes(), text.as_bytes());
        }
    }
}
