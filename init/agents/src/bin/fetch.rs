// SPDX-License-Identifier: Apache-2.0
//! `fetch URL [--max BYTES]`: what a URL names, on standard output.
//!
//! Exit 0 when all of it is written; otherwise 1, and one line on standard error says what was tried and why it failed.

#![forbid(unsafe_code)]

use std::io;
use std::process::ExitCode;

use stele_agents::fetch::{FetchError, fetch, parse, sentence, shown};

const ROOTS: &str = "/usr/share/ca-certificates/ca-certificates.crt";
const USAGE: &str = "fetch URL [--max BYTES]";

fn main() -> ExitCode {
    let Some((text, max)) = arguments(std::env::args().skip(1)) else {
        eprintln!("usage: {USAGE}");
        return ExitCode::from(64);
    };
    let url = match parse(&text) {
        Ok(url) => url,
        Err(error) => return fail(&text, &error),
    };
    let path = std::env::var_os("SSL_CERT_FILE").unwrap_or_else(|| ROOTS.into());
    // Without roots no https server is believed, and http still works.
    let roots = std::fs::read(path).unwrap_or_default();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("starting: {error}");
            return ExitCode::from(1);
        }
    };
    let name = shown(&url);
    let result = runtime.block_on(fetch(url, &roots, max, &mut io::stdout().lock()));
    // A name that is still being looked up is not waited for.
    runtime.shutdown_background();
    match result {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => fail(&name, &error),
    }
}

fn fail(url: &str, error: &FetchError) -> ExitCode {
    eprintln!("fetching {}: {}", url.replace(char::is_control, " "), sentence(error));
    ExitCode::from(1)
}

fn arguments(mut words: impl Iterator<Item = String>) -> Option<(String, u64)> {
    let url = words.next()?;
    let max = match words.next().as_deref() {
        None => u64::MAX,
        Some("--max") => words.next()?.parse().ok()?,
        Some(_) => return None,
    };
    words.next().is_none().then_some((url, max))
}
