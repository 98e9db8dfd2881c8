// SPDX-License-Identifier: Apache-2.0
//! What several tests need.

use std::path::PathBuf;
use stele_config::{MachineConfig, canonical};

/// A configuration of an Identity and these documents, each as the inside of a JSON object; without a version they are of the
/// first.
pub(crate) fn config<T: AsRef<str>>(documents: &[T]) -> MachineConfig {
    canonical::read(self::documents(documents).as_bytes()).unwrap()
}

/// The same as it is kept.
pub(crate) fn documents<T: AsRef<str>>(documents: &[T]) -> String {
    let pem = |label: &str| format!("-----BEGIN {label}-----\\nMAA=\\n-----END {label}-----\\n");
    let (certificate, key) = (pem("CERTIFICATE"), pem("PRIVATE KEY"));
    let identity = format!(
        r#""kind":"Identity","ca":"{certificate}","certificate":"{certificate}","key":"{key}""#
    );
    let bodies = documents.iter().map(AsRef::as_ref).chain([identity.as_str()]);
    let whole = |body: &str| match body.contains("apiVersion") {
        true => format!("{{{body}}}"),
        false => format!(r#"{{"apiVersion":"stele/v1",{body}}}"#),
    };
    let all: Vec<String> = bodies.map(whole).collect();
    format!("[{}]", all.join(","))
}

/// An empty folder of this test's own.
pub(crate) fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("stele-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}
