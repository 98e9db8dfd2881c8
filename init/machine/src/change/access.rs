// SPDX-License-Identifier: Apache-2.0
//! What changes of which clients may do what.

use super::{Change, Fate, named};
use stele_config::{ClientAccess, ClientRole, MachineConfig, Serial};

pub(super) fn clients<'a>(old: Option<&'a MachineConfig>, new: &'a MachineConfig) -> Vec<Change> {
    let before = old.and_then(MachineConfig::client_access);
    let after = new.client_access();
    let roles = |access: Option<&'a ClientAccess>| access.map_or(&[][..], ClientAccess::roles);
    let mut changes: Vec<String> = named(roles(before), roles(after), ClientRole::name)
        .into_iter()
        .map(|fate| match fate {
            Fate::Added(role) => format!("the role {} opens {}", role.name(), methods(role)),
            Fate::Changed(to) => format!("the role {} now opens {}", to.name(), methods(to)),
            Fate::Gone(role) => format!("the role {} opens nothing any more", role.name()),
        })
        .collect();
    let revoked = |access: Option<&'a ClientAccess>| access.map_or(&[][..], ClientAccess::revoked);
    let missing =
        |all: &[Serial], others: &[Serial]| all.iter().filter(|one| !others.contains(one)).count();
    let (earlier, later) = (revoked(before), revoked(after));
    match missing(later, earlier) {
        0 => {}
        1 => changes.push("1 more certificate opens nothing any more".to_owned()),
        more => changes.push(format!("{more} more certificates open nothing any more")),
    }
    match missing(earlier, later) {
        0 => {}
        1 => changes.push("1 certificate is revoked no more".to_owned()),
        fewer => changes.push(format!("{fewer} certificates are revoked no more")),
    }
    changes.into_iter().map(|what| Change::live("ClientAccess", what)).collect()
}

fn methods(role: &ClientRole) -> String {
    let methods: Vec<_> = role.methods().iter().map(ToString::to_string).collect();
    methods.join(", ")
}
