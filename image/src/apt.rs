// SPDX-License-Identifier: Apache-2.0
//! Debian packages, through the build machine's own apt and nothing else.
//!
//! apt runs with a private state in a temporary folder and with sources that name the suites we want at the address, and
//! under the key, that the machine's own Debian sources have. So mirrors, proxies and trust are the machine's business, and
//! its package lists stay as they are.

use crate::cache::Cache;
use crate::lock::Package;
use crate::progress::Progress;
use crate::sources::{Archive, Source};
use crate::tree::sha256_of_file;
use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The suites that packages come from. The second of a name's suites that has it wins by version.
pub const SUITES: [(&str, Archive); 3] =
    [("trixie", Archive::Main), ("sid", Archive::Main), ("trixie-security", Archive::Security)];

/// The architecture of the images.
pub const ARCHITECTURE: &str = "amd64";

/// One paragraph of a package list.
pub type Paragraph = BTreeMap<String, String>;

/// apt with a state of its own.
#[derive(Debug)]
pub struct Apt {
    folder: tempfile::TempDir,
    sources: Vec<Source>,
}

impl Apt {
    /// Sets the private state up; no network yet.
    pub fn new() -> Result<Self> {
        let sources = crate::sources::of_machine()?;
        let folder = tempfile::Builder::new().prefix("stele-apt-").tempdir()?;
        for part in ["state/lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(folder.path().join(part))?;
        }
        let apt = Self { folder, sources };
        fs::write(apt.path("apt.sources"), apt.own_sources())?;
        fs::write(apt.path("apt.conf"), apt.configuration())?;
        Ok(apt)
    }

    /// Fetches the package lists of all our suites and has apt check their signatures.
    pub fn update(&self) -> Result<Vec<Listed>> {
        self.run(Command::new("apt-get").arg("-c").arg(self.path("apt.conf")).arg("update"))
            .context("Fetching the package lists")?;
        let output =
            self.run(Command::new("apt-get").arg("-c").arg(self.path("apt.conf")).args([
                "indextargets",
                "--format",
                "$(RELEASE) $(TRUSTED) $(FILENAME)",
                "Created-By: Packages",
            ]))?;
        let mut lists = Vec::new();
        for line in String::from_utf8(output.stdout)?.lines() {
            let mut words = line.splitn(3, ' ');
            let (suite, trusted, file) = (words.next(), words.next(), words.next());
            let (Some(suite), Some("yes"), Some(file)) = (suite, trusted, file) else { continue };
            if let Some((suite, _)) = SUITES.iter().find(|(name, _)| *name == suite) {
                lists.push(Listed { suite, file: PathBuf::from(file) });
            }
        }
        for (suite, archive) in SUITES {
            let expected = archive == Archive::Main || self.source(archive).is_some();
            ensure!(
                !expected || lists.iter().any(|list| list.suite == suite),
                "Fetching the package list of {suite}: apt brought none whose signature holds. Look at the machine's Debian \
                 keyring (package debian-archive-keyring): it must know the key of {suite}."
            );
        }
        Ok(lists)
    }

    /// The files of packages, from the cache or downloaded into it; each has the digest that the lock names.
    pub fn files<'a>(
        &self,
        packages: impl Iterator<Item = &'a Package>,
        cache: &Cache,
        progress: &Progress,
    ) -> Result<Vec<(&'a Package, PathBuf)>> {
        let folder = cache.folder("packages")?;
        packages
            .map(|package| {
                let file = folder.join(format!("{}.deb", package.sha256));
                if !holds(&file, package)? {
                    progress.step(format!("Downloading {} {}", package.name, package.version));
                    self.download(package, &file)?;
                }
                Ok((package, file))
            })
            .collect()
    }

    fn download(&self, package: &Package, file: &Path) -> Result<()> {
        let archive =
            SUITES.iter().find(|(suite, _)| *suite == package.suite).map(|(_, archive)| *archive);
        let archive = archive.with_context(|| {
            format!(
                "{} is locked from the suite {}, which we take nothing from; run `image lock`",
                package.name, package.suite
            )
        })?;
        let source = self.source(archive).with_context(|| {
            format!(
                "Downloading {}: the machine's apt sources name no Debian archive for {}; add one",
                package.name, package.suite
            )
        })?;
        let partial = tempfile::Builder::new()
            .prefix(".partial-")
            .tempdir_in(file.parent().unwrap_or(Path::new(".")))?;
        let target = partial.path().join("package.deb");
        self.run(
            Command::new("/usr/lib/apt/apt-helper")
                .arg("-c")
                .arg(self.path("apt.conf"))
                .arg("download-file")
                .arg(format!("{}/{}", source.uri.trim_end_matches('/'), package.path))
                .arg(&target)
                .arg(format!("SHA256:{}", package.sha256)),
        )
        .with_context(|| {
            format!(
                "Downloading {} {} of {}. If the mirror no longer has this version ({} moves on), run `image lock`",
                package.name, package.version, package.suite, package.suite
            )
        })?;
        ensure!(
            holds(&target, package)?,
            "Downloading {} {}: the file is not the one that image/packages.lock names",
            package.name,
            package.version
        );
        fs::rename(&target, file).with_context(|| format!("Keeping {}", file.display()))
    }

    fn source(&self, archive: Archive) -> Option<&Source> {
        self.sources.iter().find(|source| source.archive == archive)
    }

    fn own_sources(&self) -> String {
        SUITES
            .iter()
            .filter_map(|(suite, archive)| Some((suite, self.source(*archive)?)))
            .map(|(suite, source)| {
                format!(
                    "Types: deb\nURIs: {}\nSuites: {suite}\nComponents: main\nArchitectures: {ARCHITECTURE}\nSigned-By:{}\n\n",
                    source.uri, source.signed_by
                )
            })
            .collect()
    }

    /// Read last, so it has the last word. The hooks of the machine must not run: they tidy up the machine's own cache.
    fn configuration(&self) -> String {
        let root = self.folder.path().display();
        format!(
            "#clear APT::Update::Post-Invoke;\n#clear APT::Update::Post-Invoke-Success;\n#clear Acquire::IndexTargets::deb::DEP-11;\n\
             Dir::State \"{root}/state\";\nDir::State::status \"/dev/null\";\nDir::Cache \"{root}/cache\";\n\
             Dir::Etc::sourcelist \"{root}/apt.sources\";\nDir::Etc::sourceparts \"/dev/null\";\n\
             APT::Sandbox::User \"\";\nAcquire::GzipIndexes \"false\";\nAcquire::Languages \"none\";\nAcquire::Retries \"3\";\n"
        )
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn run(&self, command: &mut Command) -> Result<Output> {
        let program = command.get_program().to_string_lossy().into_owned();
        let output = command.env("LC_ALL", "C.UTF-8").output().with_context(|| {
            format!("Running {program}: the image is made of Debian packages, so the build machine needs apt")
        })?;
        ensure!(
            output.status.success(),
            "{program} ended with {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(output)
    }
}

/// A package list with a signature that holds.
#[derive(Debug)]
pub struct Listed {
    /// The suite that it lists.
    pub suite: &'static str,
    file: PathBuf,
}

impl Listed {
    /// The paragraphs of the packages that `wanted` accepts.
    pub fn paragraphs(&self, wanted: impl Fn(&str) -> bool) -> Result<Vec<Paragraph>> {
        let file = fs::File::open(&self.file)
            .with_context(|| format!("Reading the package list of {}", self.suite))?;
        paragraphs(BufReader::with_capacity(1 << 18, file), wanted)
    }
}

fn paragraphs(list: impl BufRead, wanted: impl Fn(&str) -> bool) -> Result<Vec<Paragraph>> {
    let mut found = Vec::new();
    let mut current: Option<Paragraph> = None;
    for line in list.lines() {
        let line = line?;
        if let Some(name) = line.strip_prefix("Package: ") {
            found.extend(current.take());
            current = wanted(name).then(Paragraph::new);
        }
        let continued = line.starts_with(' ');
        if let (Some(paragraph), Some((key, value)), false) =
            (&mut current, line.split_once(": "), continued)
        {
            paragraph.insert(key.to_owned(), value.to_owned());
        }
    }
    found.extend(current);
    Ok(found)
}

/// Whether a file is the one that the lock names, to the last byte.
fn holds(file: &Path, package: &Package) -> Result<bool> {
    let right_size = fs::metadata(file).is_ok_and(|meta| meta.len() == package.size);
    Ok(right_size && sha256_of_file(file)? == package.sha256)
}

/// Whether version `a` is newer than `b`, as dpkg has it.
pub fn newer(a: &str, b: &str) -> Result<bool> {
    let status = Command::new("dpkg").args(["--compare-versions", a, "gt", b]).status();
    Ok(status.context("Running dpkg to compare versions")?.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paragraphs_are_read_and_continuations_are_not_keys() {
        let list = "Package: a\nVersion: 1\nDescription: x\n odd: y\n\nPackage: b\nVersion: 2\n";
        let found = paragraphs(list.as_bytes(), |name| name == "a").unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0]["Version"], "1");
        assert!(!found[0].contains_key(" odd"));
    }
}
