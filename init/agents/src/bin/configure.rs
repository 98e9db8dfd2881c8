// SPDX-License-Identifier: Apache-2.0
//! `configure [--user-data | --included SHA256]`: a configuration in YAML from standard input, in canonical form to
//! standard output.
//!
//! With `--user-data` it may be wrapped as clouds pass things on, and parts for others are named on standard error.
//! With `--included` as well, but its digest has to be this one, and it may not be elsewhere again.
//!
//! Exit 0 with the canonical form, a JSON array of documents, and on the next line where each of them stood; 2 with a JSON
//! array of findings; 3 with a JSON object that says where the configuration is (`url`, `sha256`); 1 when standard input or
//! output fails, with a line on standard error.

#![forbid(unsafe_code)]

use std::io::{self, Read, Write};
use std::process::ExitCode;

use sha2::{Digest as _, Sha256};
use stele_agents::user_data::{self, Include, UserData};
use stele_config::{
    Finding, MAX_BYTES, canonical,
    yaml::{self, Located},
};

/// In what the configuration may be wrapped.
enum Wrapping {
    None,
    UserData,
    /// What was included, by its digest.
    Included(String),
}

/// What there is to answer.
enum Answer {
    Config(Box<Located>),
    Findings(Vec<Finding>),
    Include(Include),
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let wrapping = match arguments.as_slice() {
        [] => Wrapping::None,
        ["--user-data"] => Wrapping::UserData,
        ["--included", sha256] => Wrapping::Included((*sha256).to_owned()),
        _ => {
            eprintln!("configure: usage: configure [--user-data | --included SHA256]");
            return ExitCode::from(1);
        }
    };
    match read(io::stdin().lock(), &wrapping).and_then(|found| answer(&found, io::stdout().lock()))
    {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("configure: {error}");
            ExitCode::from(1)
        }
    }
}

/// Reads a configuration: no more of it than tells that it is too long, and nothing is kept waiting for the rest.
fn read(input: impl Read, wrapping: &Wrapping) -> io::Result<Answer> {
    let mut bytes = Vec::new();
    input.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    let unwrapped = match wrapping {
        Wrapping::None => return Ok(parse(&bytes)),
        Wrapping::UserData => user_data::unwrap(&bytes, false).map_err(|error| error.to_string()),
        Wrapping::Included(wanted) => included(&bytes, wanted),
    };
    Ok(match unwrapped {
        Ok(UserData::Documents { text, others }) => {
            if !others.is_empty() {
                eprintln!("left alone, as they are not for this system: {}", others.join(", "));
            }
            parse(&text)
        }
        Ok(UserData::Include(include)) => Answer::Include(include),
        Err(message) => Answer::Findings(vec![Finding {
            document: 0,
            kind: String::new(),
            path: String::new(),
            line: 0,
            message,
            expected: String::new(),
            warning: false,
        }]),
    })
}

fn included(bytes: &[u8], wanted: &str) -> Result<UserData, String> {
    let found: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    if found != wanted {
        return Err(format!("what was included has the SHA-256 {found}, and should have {wanted}"));
    }
    user_data::unwrap(bytes, true).map_err(|error| error.to_string())
}

fn parse(bytes: &[u8]) -> Answer {
    match yaml::locate(bytes) {
        Ok(located) => Answer::Config(Box::new(located)),
        Err(findings) => Answer::Findings(findings),
    }
}

/// Writes the answer, and says what to exit with.
fn answer(found: &Answer, mut output: impl Write) -> io::Result<u8> {
    let (code, bytes) = match found {
        Answer::Config(located) => {
            let mut bytes = canonical::write(&located.config);
            bytes.push(b'\n');
            serde_json::to_writer(&mut bytes, &located.places)?;
            (0, bytes)
        }
        Answer::Findings(findings) => (2, serde_json::to_vec(findings)?),
        Answer::Include(include) => (3, serde_json::to_vec(include)?),
    };
    output.write_all(&bytes)?;
    output.flush()?;
    Ok(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(input: impl Read, wrapping: &Wrapping) -> (u8, String) {
        let mut output = Vec::new();
        let code = answer(&read(input, wrapping).unwrap(), &mut output).unwrap();
        (code, String::from_utf8(output).unwrap())
    }

    #[test]
    fn findings_are_json_with_exit_2() {
        let (code, output) = run("kind: Lnik\n".as_bytes(), &Wrapping::None);
        let findings: Vec<Finding> = serde_json::from_str(&output).unwrap();
        assert_eq!(code, 2);
        assert!(
            findings.iter().any(|finding| finding.message.contains("did you mean \"Link\"")),
            "{output}"
        );
    }

    #[test]
    fn endless_input_ends() {
        for wrapping in [Wrapping::None, Wrapping::UserData] {
            let (code, output) = run(io::repeat(b'#'), &wrapping);
            assert_eq!(code, 2);
            assert!(output.contains("too long") || output.contains("more than"), "{output}");
        }
    }

    #[test]
    fn only_what_was_meant_is_included() {
        let text = format!("#include\nhttp://10.0.2.2/n1 sha256:{}\n", "0".repeat(64));
        let (code, output) = run(text.as_bytes(), &Wrapping::UserData);
        assert_eq!((code, output.contains("10.0.2.2")), (3, true));
        let (code, output) = run("kind: Link\n".as_bytes(), &Wrapping::Included("0".repeat(64)));
        assert_eq!((code, output.contains("should have 0000")), (2, true));
    }

    #[test]
    fn scripts_are_refused_only_where_they_are_expected() {
        let (code, output) = run("#!/bin/sh\n".as_bytes(), &Wrapping::UserData);
        assert_eq!((code, output.contains("is a script")), (2, true), "{output}");
    }
}
