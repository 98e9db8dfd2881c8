// SPDX-License-Identifier: Apache-2.0
//! The release information of an image, as in os-release(5): which product it is, and which version.

use stele_layout::version::{Version, VersionError};

/// The longest release information that is read.
pub const MAX: u64 = 64 * 1024;

/// Why an image is not one of ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OsrelError {
    /// Not text.
    #[error("the image's release information is not UTF-8 text")]
    Text,
    /// A key is missing.
    #[error("the image's release information has no {0}")]
    Missing(&'static str),
    /// Another product.
    #[error("the image is of {0:?}, not of stele")]
    OtherProduct(String),
    /// A version that can't be in a file name.
    #[error("the image's version {version:?} can't be used")]
    Version {
        /// What it says.
        version: String,
        /// Why not.
        source: VersionError,
    },
}

/// What an image says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// Its version.
    pub version: Version,
    /// The oldest version that may move to it (`UPGRADES_FROM`), if it minds.
    pub upgrades_from: Option<Version>,
}

/// What the image with this release information says of itself.
///
/// # Errors
/// When it is not an image of ours.
pub fn release(bytes: &[u8]) -> Result<Release, OsrelError> {
    let Ok(text) = std::str::from_utf8(bytes) else { return Err(OsrelError::Text) };
    let text = text.trim_end_matches('\0');
    let product = value(text, "IMAGE_ID").ok_or(OsrelError::Missing("IMAGE_ID"))?;
    if product != "stele" {
        return Err(OsrelError::OtherProduct(product.chars().take(64).collect()));
    }
    let version = value(text, "IMAGE_VERSION").ok_or(OsrelError::Missing("IMAGE_VERSION"))?;
    let upgrades_from = value(text, "UPGRADES_FROM").filter(|version| !version.is_empty());
    Ok(Release { version: parse(version)?, upgrades_from: upgrades_from.map(parse).transpose()? })
}

fn parse(version: &str) -> Result<Version, OsrelError> {
    Version::parse(version).map_err(|source| OsrelError::Version {
        version: version.chars().take(80).collect(),
        source,
    })
}

/// The last value of a key. No value of ours needs an escape, so none is undone.
fn value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let value =
        text.lines().rev().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))?.trim_end();
    let quoted = |quote: char| value.strip_prefix(quote)?.strip_suffix(quote);
    Some(quoted('"').or_else(|| quoted('\'')).unwrap_or(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn version(bytes: &[u8]) -> Result<Version, OsrelError> {
        release(bytes).map(|release| release.version)
    }

    #[test]
    fn versions() {
        assert_eq!(
            version(b"ID=stele\nIMAGE_ID=stele\nIMAGE_VERSION=1.1.0\n").unwrap().as_str(),
            "1.1.0"
        );
        assert_eq!(version(b"IMAGE_VERSION='2'\nIMAGE_ID=\"stele\"\0\0").unwrap().as_str(), "2");
        let release = release(b"IMAGE_ID=stele\nIMAGE_VERSION=3\nUPGRADES_FROM=\"2.1\"\n").unwrap();
        assert_eq!(release.upgrades_from.unwrap().as_str(), "2.1");
    }

    #[test]
    fn images_of_others() {
        assert_eq!(version(b"ID=debian\n"), Err(OsrelError::Missing("IMAGE_ID")));
        assert_eq!(
            version(b"IMAGE_ID=particle\n"),
            Err(OsrelError::OtherProduct("particle".into()))
        );
        assert_eq!(version(b"IMAGE_ID=stele\n"), Err(OsrelError::Missing("IMAGE_VERSION")));
        assert!(matches!(
            version(b"IMAGE_ID=stele\nIMAGE_VERSION=../1"),
            Err(OsrelError::Version { .. })
        ));
        assert_eq!(version(&[0xff]), Err(OsrelError::Text));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = version(&bytes);
        }
    }
}
