// SPDX-License-Identifier: Apache-2.0
//! Whether the machine has become what a configuration says: each part tells, once it knows.

use std::{collections::BTreeMap, time::Duration};
use tokio::sync::watch;

/// How long the parts may take, all together.
const DEADLINE: Duration = Duration::from_secs(20);

macro_rules! parts {
    ($($name:ident = $word:literal;)*) => {
        /// A part of PID 1 that takes a configuration into force.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub(crate) enum Part { $($name,)* }

        impl Part {
            pub(crate) const ALL: &'static [Part] = &[$(Part::$name,)*];

            const fn word(self) -> &'static str {
                match self { $(Part::$name => $word,)* }
            }
        }
    };
}

parts! {
    Api = "the API";
    LogSinks = "log sinks";
    Metadata = "the metadata service";
    Metrics = "the figures";
    Network = "the network";
    KernelModules = "kernel modules";
    Resolver = "name resolution";
    Sysctls = "kernel settings";
    Trust = "trust roots and registries";
    Time = "the clock";
    Environment = "the environment of services";
    Files = "files";
}

/// What the parts said of a generation.
#[derive(Debug, Default)]
struct Reports {
    generation: u64,
    said: BTreeMap<Part, Result<(), String>>,
}

/// Where the parts tell.
#[derive(Debug, Default)]
pub(crate) struct Convergence {
    reports: watch::Sender<Reports>,
}

impl Convergence {
    /// A generation is about to be made known: nobody has said anything of it.
    pub(crate) fn begin(&self, generation: u64) {
        self.reports.send_replace(Reports { generation, said: BTreeMap::new() });
    }

    /// A part has done what this generation asks of it, or could not: a reason that names the document.
    pub(crate) fn report(&self, part: Part, generation: u64, outcome: Result<(), String>) {
        self.reports.send_if_modified(|reports| {
            if reports.generation != generation {
                return false;
            }
            let before = reports.said.insert(part, outcome);
            before.as_ref() != reports.said.get(&part)
        });
    }

    /// Waits until all parts have done what was asked.
    ///
    /// # Errors
    /// What one of them could not do, or that one said nothing in time.
    pub(crate) async fn reached(&self) -> Result<(), String> {
        let mut reports = self.reports.subscribe();
        let all = reports.wait_for(|reports| {
            reports.said.values().any(Result::is_err) || reports.said.len() == Part::ALL.len()
        });
        // An error would mean that the sender is gone, which is this one.
        if let Ok(Ok(reports)) = tokio::time::timeout(DEADLINE, all).await {
            return reports.said.values().find(|said| said.is_err()).cloned().unwrap_or(Ok(()));
        }
        let reports = self.reports.borrow();
        let silent: Vec<&str> = (Part::ALL.iter())
            .filter(|part| !reports.said.contains_key(part))
            .map(|part| part.word())
            .collect();
        Err(format!("after {} s not in force: {}", DEADLINE.as_secs(), silent.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn all_parts_have_to_say_so() {
        let convergence = Convergence::default();
        convergence.begin(2);
        convergence.report(Part::Network, 1, Ok(()));
        assert!(convergence.reports.borrow().said.is_empty(), "of another generation");
        for part in Part::ALL {
            convergence.report(*part, 2, Ok(()));
        }
        assert_eq!(convergence.reached().await, Ok(()));
        convergence.report(Part::Network, 2, Err("an address is in use".to_owned()));
        assert_eq!(convergence.reached().await, Err("an address is in use".to_owned()));
    }
}
