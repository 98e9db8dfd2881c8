// SPDX-License-Identifier: Apache-2.0
//! What takes long when it is done for the first time, done before somebody waits for it.

/// Some of everything: an identity to be judged, lists, mappings, blocks of text.
const DOCUMENTS: &str = concat!(
    include_str!("rehearsal.yaml"),
    "---\n",
    include_str!("../../examples/Link.yaml"),
    "---\n",
    include_str!("../../examples/Sysctl.yaml"),
    "---\n",
    include_str!("../../examples/HealthCheck.yaml"),
    "---\n",
    include_str!("../../examples/TrustedRoots.yaml"),
    "---\n",
    include_str!("../../examples/UpgradePolicy.yaml"),
);

/// Reads a configuration of nobody's: the code for it is in memory then, and the next one takes a fraction of the time. It makes
/// no key, which would take randomness, and with it longer than all the rest.
pub fn rehearse() {
    let _nobodys = super::locate(DOCUMENTS.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reads_all_of_it() {
        // What ended early would leave the rest to be read for the first time by whoever is waited for.
        assert_eq!(crate::yaml::locate(DOCUMENTS.as_bytes()).err(), None);
    }
}
