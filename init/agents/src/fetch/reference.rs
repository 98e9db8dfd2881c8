// SPDX-License-Identifier: Apache-2.0
//! The name of an artifact in a registry: `[http://]HOST[:PORT]/NAME(:TAG|@DIGEST)`.

use reqwest::Url;

use crate::fetch::FetchError;

/// A name, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// `https://HOST:PORT/v2/NAME/`.
    pub base: Url,
    /// The repository's name.
    pub name: String,
    /// The tag, or the digest with its algorithm.
    pub version: String,
}

impl Reference {
    /// Understands a name.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(text: &str) -> Result<Reference, FetchError> {
        let (scheme, rest) = match text.split_once("://") {
            None => ("https", text),
            Some((scheme @ ("http" | "https"), rest)) => (scheme, rest),
            Some((other, _)) => return Err(FetchError::Scheme(other.to_owned())),
        };
        let refuse = FetchError::Reference;
        let (host, path) = rest.split_once('/').ok_or(refuse("it has no HOST/NAME"))?;
        let (path, version) = match path.split_once('@') {
            Some((path, digest)) => {
                let hex = digest.strip_prefix("sha256:").unwrap_or_default();
                if hex.len() != 64
                    || !hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
                {
                    return Err(refuse("behind @ belongs sha256: and 64 hex digits"));
                }
                // A tag beside a digest says nothing that the digest doesn't.
                (path.split_once(':').map_or(path, |(path, _)| path), digest)
            }
            None => path.split_once(':').ok_or(refuse("it has neither :TAG nor @DIGEST"))?,
        };
        let tag = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | ':');
        if version.is_empty() || version.len() > 128 || !version.chars().all(tag) {
            return Err(refuse("its tag has letters that no tag has"));
        }
        let part = |part: &str| {
            let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
            let inner = |c: char| {
                c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-')
            };
            ends(part.chars().next()) && ends(part.chars().last()) && part.chars().all(inner)
        };
        if path.len() > 255 || !path.split('/').all(part) {
            return Err(refuse("NAME consists of a-z, 0-9 and . _ - between slashes"));
        }
        if host.is_empty() || host.contains(['@', '?', '#', '\\']) {
            return Err(refuse("its HOST can't be one"));
        }
        let base = Url::parse(&format!("{scheme}://{host}/v2/{path}/"))
            .map_err(|error| FetchError::Url(error.into()))?;
        Ok(Reference { base, name: path.to_owned(), version: version.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names() {
        let name = Reference::parse("registry.example/stele/os:1.1.0").unwrap();
        assert_eq!(name.base.as_str(), "https://registry.example/v2/stele/os/");
        assert_eq!((name.name.as_str(), name.version.as_str()), ("stele/os", "1.1.0"));
        let name = Reference::parse("http://10.0.2.2:5000/os:latest").unwrap();
        assert_eq!(name.base.as_str(), "http://10.0.2.2:5000/v2/os/");
        let digest = format!("sha256:{}", "ab".repeat(32));
        let name = Reference::parse(&format!("[::1]:5000/os:1@{digest}")).unwrap();
        assert_eq!((name.base.as_str(), name.version), ("https://[::1]:5000/v2/os/", digest));
    }

    #[test]
    fn texts_that_are_none() {
        for text in [
            "",
            "os:1",
            "host/os",
            "host/os@sha256:12",
            "host/OS:1",
            "host/../os:1",
            "/os:1",
            "ftp://host/os:1",
            "host/os:",
            "me:pw@host/os:1",
            "host//os:1",
            "host/os:a b",
        ] {
            assert!(Reference::parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in any::<String>()) {
            let _ = Reference::parse(&text);
        }
    }
}
