// SPDX-License-Identifier: Apache-2.0
//! What may not be in a root, checked on every build.
//!
//! * no shell, interpreter or package manager, by name or by what is in the file;
//! * no setuid or setgid file;
//! * no executable that the allow-list does not name, and no name in it that the root lacks;
//! * every ELF program and library is hardened (see [`crate::elf`]) and finds its loader and its libraries.
//!
//! Each finding is a sentence with the path in it; a build fails with all of them at once.

use crate::elf::{self, Elf, Hardening};
use crate::tree::{Node, Tree};
use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeMap;

/// Names of shells.
const SHELLS: &[&str] = &[
    "ash", "bash", "busybox", "csh", "dash", "elvish", "fish", "ksh", "ksh93", "mksh", "nu",
    "pwsh", "rbash", "rc", "sash", "sh", "tcsh", "toybox", "xonsh", "yash", "zsh",
];

/// Beginnings of names of interpreters; a version may follow.
const INTERPRETERS: &[&str] = &[
    "awk", "bun", "deno", "gawk", "gdb", "guile", "java", "lua", "luajit", "mawk", "nawk", "node",
    "nodejs", "perl", "php", "pypy", "python", "qjs", "quickjs", "ruby", "sed", "tclsh", "wish",
];

/// Names of package managers.
const PACKAGE_MANAGERS: &[&str] = &[
    "apk", "apt", "apt-get", "aptitude", "cargo", "conda", "dnf", "dpkg", "dpkg-deb", "emerge",
    "flatpak", "gem", "nix", "nix-env", "npm", "opkg", "pacman", "pip", "pip3", "rpm", "snap",
    "yum", "zypper",
];

/// Text that gives a file away under whatever name: all of a row must be in it.
const MARKS: &[(&str, &[&str])] = &[
    ("a shell", &["OPTIND", "getopts", "unset"]),
    ("a shell (busybox)", &["BusyBox v"]),
    ("an interpreter (Python)", &["PYTHONPATH", "PYTHONHOME"]),
    ("an interpreter (Perl)", &["PERL5LIB"]),
    ("an interpreter (Lua)", &["LUA_PATH"]),
    ("an interpreter (Ruby)", &["RUBYLIB"]),
    ("a package manager (dpkg)", &["DPKG_MAINTSCRIPT"]),
];

/// One line of the allow-list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allowed {
    /// Which hardening it lacks, as listed.
    pub lacks: Vec<Hardening>,
    /// Why it is there; for one that lacks something, also why that is so.
    pub reason: String,
}

/// The executables that a root may hold, by path without the leading slash.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AllowList(BTreeMap<String, Allowed>);

impl AllowList {
    /// Reads the list: `PATH [lacks=pie,relro,nx]  # reason`, one a line.
    pub fn parse(text: &str) -> Result<Self> {
        let mut list = BTreeMap::new();
        for (number, line) in text.lines().enumerate() {
            let read = || -> Result<Option<(String, Allowed)>> {
                if line.trim().is_empty() || line.starts_with('#') {
                    return Ok(None);
                }
                let (left, reason) =
                    line.split_once('#').context("it gives no reason (`# because …`)")?;
                let mut words = left.split_whitespace();
                let path = words
                    .next()
                    .and_then(|path| path.strip_prefix('/'))
                    .context("it names no absolute path")?;
                let lacks = match words.next().map(|word| word.strip_prefix("lacks=")) {
                    None => Vec::new(),
                    Some(Some(lacks)) => {
                        lacks.split(',').map(Hardening::parse).collect::<Result<_>>()?
                    }
                    Some(None) => bail!("after the path comes `lacks=…` or nothing"),
                };
                ensure!(!reason.trim().is_empty(), "it gives an empty reason");
                Ok(Some((path.to_owned(), Allowed { lacks, reason: reason.trim().to_owned() })))
            };
            let entry = read().with_context(|| {
                format!("Reading line {} of the allow-list, {line:?}", number + 1)
            })?;
            if let Some((path, allowed)) = entry {
                ensure!(
                    list.insert(path.clone(), allowed).is_none(),
                    "The allow-list names /{path} twice"
                );
            }
        }
        Ok(Self(list))
    }

    /// Adds an executable that a variant of the image brings.
    pub fn allow(&mut self, path: &str, reason: &str) {
        self.0.insert(path.to_owned(), Allowed { lacks: Vec::new(), reason: reason.to_owned() });
    }
}

/// Everything that is wrong with a root; empty when nothing is.
#[must_use]
pub fn findings(root: &Tree, allowed: &AllowList) -> Vec<String> {
    let mut found = Vec::new();
    for (path, node) in root.iter() {
        if let Some(what) = by_name(path) {
            found.push(format!("/{path} is {what} by its name; the image holds none"));
        }
        if let Node::File { mode, data } = node {
            file(root, path, *mode, data, allowed.0.get(path), &mut found);
        }
    }
    for path in allowed.0.keys() {
        if root.data(path).is_none() {
            found.push(format!(
                "/{path} is in the allow-list but not in the root; take it out of image/allowlist"
            ));
        }
    }
    found
}

/// The same as an error, for a build.
pub fn check(root: &Tree, allowed: &AllowList) -> Result<()> {
    let found = findings(root, allowed);
    ensure!(found.is_empty(), "The root breaks the image's rules:\n  {}", found.join("\n  "));
    Ok(())
}

fn file(
    root: &Tree,
    path: &str,
    mode: u32,
    data: &[u8],
    allowed: Option<&Allowed>,
    found: &mut Vec<String>,
) {
    if mode & 0o6000 != 0 {
        found.push(format!("/{path} is setuid or setgid (mode {mode:04o}); nothing in the image gains privilege by being run"));
    }
    let executable = mode & 0o111 != 0;
    if executable && data.starts_with(b"#!") {
        found.push(format!("/{path} is a script; the image has nothing to run it with"));
    }
    let elf = match elf::parse(data) {
        Ok(elf) => elf,
        Err(error) => {
            found.push(format!("/{path} is a broken ELF file: {error:#}"));
            return;
        }
    };
    let program = match &elf {
        Some(Elf::Program(program)) => Some(program),
        Some(Elf::Object) | None => None,
    };
    if program.is_none() && !executable {
        return;
    }
    if let Some((what, _)) =
        MARKS.iter().find(|(_, marks)| marks.iter().all(|mark| contains(data, mark)))
    {
        found.push(format!("/{path} is {what} by its content; the image holds none"));
    }
    let Some(allowed) = allowed else {
        found.push(format!("/{path} is an executable that image/allowlist does not name; name it there with the reason, or leave it out"));
        return;
    };
    let Some(program) = program else { return };
    for lack in program.lacks.iter().filter(|lack| !allowed.lacks.contains(lack)) {
        found.push(format!(
            "/{path} is not {}; build it so, or list it with `lacks={}` and the reason",
            lack.means(),
            lack.name()
        ));
    }
    for lack in allowed.lacks.iter().filter(|lack| !program.lacks.contains(lack)) {
        found.push(format!(
            "/{path} is listed with `lacks={}` but has it; take that out of image/allowlist",
            lack.name()
        ));
    }
    for loader in program.loader.iter().filter(|loader| root.resolve(loader).is_none()) {
        found.push(format!("/{path} wants the loader {loader}, which is not in the root"));
    }
    for library in &program.needed {
        if !LIBRARIES.iter().any(|folder| root.resolve(&format!("{folder}/{library}")).is_some()) {
            found.push(format!("/{path} needs {library}, which is not in the root; name its package in image/src/resolve.rs"));
        }
    }
}

/// Where Debian's loader looks.
const LIBRARIES: [&str; 2] = ["lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu"];

fn by_name(path: &str) -> Option<&'static str> {
    let name = path.rsplit('/').next().unwrap_or(path);
    // Names of modules are not names of programs (`ruby.ko` would be fine).
    if name.contains(".ko") {
        return None;
    }
    if SHELLS.contains(&name) {
        return Some("a shell");
    }
    if PACKAGE_MANAGERS.contains(&name) {
        return Some("a package manager");
    }
    let versioned = |start: &&&str| {
        name.strip_prefix(**start).is_some_and(|rest| {
            rest.bytes().all(|byte| byte.is_ascii_digit() || b".-".contains(&byte))
        })
    };
    INTERPRETERS.iter().find(versioned).map(|_| "an interpreter")
}

fn contains(data: &[u8], text: &str) -> bool {
    data.windows(text.len()).any(|window| window == text.as_bytes())
}

#[cfg(test)]
#[path = "policy/tests.rs"]
mod tests;
