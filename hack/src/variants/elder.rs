// SPDX-License-Identifier: Apache-2.0
//! A reader of configurations that knows the first version of documents alone, as the first images do.

use std::{
    io::{Read, Write},
    process::ExitCode,
};

fn main() -> ExitCode {
    let mut configuration = String::new();
    if std::io::stdin().read_to_string(&mut configuration).is_err() {
        return ExitCode::FAILURE;
    }
    if !configuration.contains("stele/v2") {
        return ExitCode::SUCCESS;
    }
    let finding = r#"[{"document":1,"kind":"Link","path":"apiVersion","line":0,"message":"unknown version stele/v2","expected":"stele/v1"}]"#;
    if std::io::stdout().write_all(finding.as_bytes()).is_err() {
        return ExitCode::FAILURE;
    }
    ExitCode::from(2)
}
