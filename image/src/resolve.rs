// SPDX-License-Identifier: Apache-2.0
//! `image lock`: which packages, in their newest versions, make an image today.

use crate::apt::{ARCHITECTURE, Apt, Paragraph, newer};
use crate::lock::{Lock, Package, Purpose};
use crate::progress::Progress;
use anyhow::{Context, Result, ensure};

/// What we take from Debian: a name, where it may come from, and what for. A kernel is named by the package that depends on
/// its newest version. Libraries are named one by one: an unlisted one fails the build, because nothing of the root may need it.
const WANTED: [(&str, &[&str], Purpose); 10] = [
    ("linux-image-cloud-amd64", &["trixie", "trixie-security"], Purpose::KernelCloud),
    ("linux-image-amd64", &["trixie", "trixie-security"], Purpose::KernelMetal),
    ("e2fsprogs", &["trixie", "trixie-security"], Purpose::Tools),
    ("libblkid1", &["trixie", "trixie-security"], Purpose::Tools),
    ("libc6", &["trixie", "trixie-security"], Purpose::Tools),
    ("libcom-err2", &["trixie", "trixie-security"], Purpose::Tools),
    ("libext2fs2t64", &["trixie", "trixie-security"], Purpose::Tools),
    ("libuuid1", &["trixie", "trixie-security"], Purpose::Tools),
    ("ca-certificates", &["trixie", "trixie-security"], Purpose::Trust),
    // 257, as trixie has it, does not fall back from an image that cannot be loaded; 262 does.
    ("systemd-boot-efi", &["sid"], Purpose::Boot),
];

/// What the test harness needs, and the image never: firmware for its machines, a registry, and who signs in it; who collects
/// figures and logs, with the libraries of the latter.
const HARNESS: [(&str, &[&str], Purpose); 13] = [
    ("ovmf", &["trixie", "trixie-security"], Purpose::Firmware),
    ("docker-registry", &["trixie", "trixie-security"], Purpose::Harness),
    ("cosign", &["sid"], Purpose::Harness),
    ("prometheus", &["trixie", "trixie-security"], Purpose::Harness),
    ("promtool", &["trixie", "trixie-security"], Purpose::Harness),
    ("rsyslog", &["trixie", "trixie-security"], Purpose::Harness),
    ("rsyslog-openssl", &["trixie", "trixie-security"], Purpose::Harness),
    ("libssl3t64", &["trixie", "trixie-security"], Purpose::Harness),
    ("libzstd1", &["trixie", "trixie-security"], Purpose::Harness),
    ("libestr0", &["trixie", "trixie-security"], Purpose::Harness),
    ("libfastjson4", &["trixie", "trixie-security"], Purpose::Harness),
    ("libsystemd0", &["trixie", "trixie-security"], Purpose::Harness),
    ("zlib1g", &["trixie", "trixie-security"], Purpose::Harness),
];

/// Asks apt what is newest.
pub fn resolve(progress: &Progress) -> Result<Lock> {
    progress.step("Fetching package lists");
    let apt = Apt::new()?;
    let lists = apt.update()?;
    progress.step("Resolving packages");
    let wanted = |name: &str| {
        name.starts_with("linux-image-")
            || WANTED.iter().chain(&HARNESS).any(|(known, _, _)| *known == name)
    };
    let mut known: Vec<(&str, Paragraph)> = Vec::new();
    for list in &lists {
        known.extend(list.paragraphs(wanted)?.into_iter().map(|paragraph| (list.suite, paragraph)));
    }
    let mut packages = Vec::new();
    for (name, suites, purpose) in WANTED.iter().chain(&HARNESS) {
        let (mut suite, mut paragraph) = newest(&known, name, suites)?;
        if matches!(purpose, Purpose::KernelCloud | Purpose::KernelMetal) {
            let image = depended_image(paragraph)
                .with_context(|| format!("{name} of {suite} depends on no kernel image"))?;
            (suite, paragraph) = newest(&known, image, suites)?;
        }
        packages.push(package(suite, paragraph, *purpose)?);
    }
    packages.sort_by(|a, b| (a.purpose, &a.name).cmp(&(b.purpose, &b.name)));
    Ok(Lock { packages })
}

fn newest<'a>(
    known: &'a [(&'a str, Paragraph)],
    name: &str,
    suites: &[&str],
) -> Result<(&'a str, &'a Paragraph)> {
    let mut best: Option<(&str, &Paragraph)> = None;
    for (suite, paragraph) in
        known.iter().filter(|(suite, p)| suites.contains(suite) && p["Package"] == name)
    {
        let better = match best {
            Some((_, other)) => newer(&paragraph["Version"], &other["Version"])?,
            None => true,
        };
        if better {
            best = Some((suite, paragraph));
        }
    }
    best.with_context(|| {
        format!("Looking for {name}: none of the suites {} has it", suites.join(", "))
    })
}

/// `linux-image-6.12.117+deb13-cloud-amd64` out of `Depends: linux-image-6.12.117+deb13-cloud-amd64 (= 6.12.117-1)`.
fn depended_image(paragraph: &Paragraph) -> Option<&str> {
    let depends = paragraph.get("Depends")?.split(',');
    depends
        .filter_map(|one| one.split_whitespace().next())
        .find(|name| name.starts_with("linux-image-"))
}

fn package(suite: &str, paragraph: &Paragraph, purpose: Purpose) -> Result<Package> {
    let name = paragraph["Package"].clone();
    let field = |key: &str| {
        paragraph
            .get(key)
            .cloned()
            .with_context(|| format!("{name} of {suite} is listed without {key}"))
    };
    let package = Package {
        purpose,
        version: field("Version")?,
        architecture: field("Architecture")?,
        suite: suite.to_owned(),
        path: field("Filename")?,
        size: field("Size")?.parse()?,
        sha256: field("SHA256")?,
        name,
    };
    ensure!(
        [ARCHITECTURE, "all"].contains(&package.architecture.as_str()),
        "{} is listed for {}",
        package.name,
        package.architecture
    );
    ensure!(
        package.sha256.len() == 64
            && package.path.starts_with("pool/")
            && !package.path.contains(".."),
        "{} of {suite} is listed with an odd digest or path",
        package.name
    );
    Ok(package)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(name: &str, version: &str, depends: &str) -> Paragraph {
        [("Package", name), ("Version", version), ("Depends", depends)]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into()
    }

    #[test]
    fn the_newest_of_the_named_suites_wins() {
        let known = [
            ("trixie", listed("k", "6.12.107-1", "")),
            ("trixie-security", listed("k", "6.12.117-1", "")),
            ("sid", listed("k", "7.2.13-1", "")),
        ];
        let (suite, paragraph) = newest(&known, "k", &["trixie", "trixie-security"]).unwrap();
        assert_eq!((suite, paragraph["Version"].as_str()), ("trixie-security", "6.12.117-1"));
        assert!(newest(&known, "none", &["sid"]).is_err());
    }

    #[test]
    fn the_kernel_is_found_among_other_dependencies() {
        let paragraph = listed("k", "1", "linux-base (= 1), linux-image-7.2-cloud-amd64 (= 1)");
        assert_eq!(depended_image(&paragraph), Some("linux-image-7.2-cloud-amd64"));
    }
}
