// SPDX-License-Identifier: Apache-2.0
//! Which keys this machine takes images from: those that the running image carries, and those that its configuration
//! adds or puts in their place.

use crate::node::Node;
use std::{fs, io, path::Path};

/// Where an image has its keys.
const DIRECTORY: &str = "/usr/share/stele/keys";

/// The keys, in PEM. PID 1 does not look into them; the stage agent leaves out what is none.
pub(super) fn trusted(node: &Node) -> Vec<String> {
    let active = node.configuration.active();
    let policy = active.as_ref().and_then(|active| active.config.upgrade_policy());
    let mut keys = Vec::new();
    if !policy.is_some_and(|policy| policy.replace_keys()) {
        match of_image(Path::new(DIRECTORY)) {
            Ok(own) => keys.extend(own),
            Err(error) => tracing::error!(error = %error, "reading the image's keys failed"),
        }
    }
    keys.extend(policy.into_iter().flat_map(|policy| policy.keys()).map(ToString::to_string));
    keys
}

fn of_image(directory: &Path) -> io::Result<Vec<String>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "pub") {
            files.push(path);
        }
    }
    files.sort();
    files.iter().map(fs::read_to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_the_files_that_end_in_pub() {
        let folder = std::env::temp_dir().join(format!("stele-keys-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        for (name, text) in [("b.pub", "2"), ("a.pub", "1"), ("readme", "3")] {
            fs::write(folder.join(name), text).unwrap();
        }
        assert_eq!(of_image(&folder).unwrap(), ["1", "2"]);
        fs::remove_dir_all(&folder).unwrap();
        assert!(of_image(&folder).is_err());
    }
}
