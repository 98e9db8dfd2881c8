// SPDX-License-Identifier: Apache-2.0
//! A reader of configurations that has something against every one: how a future image may see today's documents.

use std::{
    io::{Read, Write},
    process::ExitCode,
};

fn main() -> ExitCode {
    let mut configuration = Vec::new();
    let read = std::io::stdin().read_to_end(&mut configuration);
    if read.is_err() || configuration.is_empty() {
        return ExitCode::FAILURE;
    }
    let finding = r#"[{"document":1,"kind":"UpgradePolicy","path":"deadline","line":0,"message":"this version of Stele knows no such key","expected":"nothing"}]"#;
    if std::io::stdout().write_all(finding.as_bytes()).is_err() {
        return ExitCode::FAILURE;
    }
    ExitCode::from(2)
}
