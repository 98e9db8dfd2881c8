// SPDX-License-Identifier: Apache-2.0
//! `configure [--ahead | --user-data | --included SHA256]`: a configuration in YAML from standard input, in canonical form to
//! standard output. With `--ahead` it makes itself ready before it reads, for it was started before there was something to read. `configure --attributes FORM`: what a platform's file in that form says of the machine, as a JSON
//! object. `configure --network FORM`: what it says of the network, as a JSON array of documents.
//!
//! With `--user-data` it may be wrapped as clouds pass things on, and parts for others are named on standard error.
//! With `--included` as well, but its digest has to be this one, and it may not be elsewhere again.
//!
//! Exit 0 with the canonical form, a JSON array of documents, and on the next line where each of them stood; 2 with a JSON
//! array of findings; 3 with a JSON object that says where the configuration is (`url`, `sha256`); 4 when the user-data is empty; 5 with an
//! array of findings when it is for others; 1 when standard
//! input or output fails, with a line on standard error.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::process::ExitCode;

use serde_json::Value;
use sha2::{Digest as _, Sha256};
use stele_agents::about::Form;
use stele_agents::network;
use stele_agents::user_data::{self, Include, UserData, UserDataError};
use stele_config::{
    Finding, MAX_BYTES, canonical,
    yaml::{self, Located},
};

/// What to do.
enum Job {
    Read(Wrapping),
    Attributes(Form),
    Network(network::Form),
}

/// In what the configuration may be wrapped.
enum Wrapping {
    None,
    UserData,
    /// What was included, by its digest.
    Included(String),
}

/// What there is to answer.
enum Answer {
    /// There is nothing to be read.
    Nothing,
    Attributes(BTreeMap<&'static str, String>),
    Network(Vec<Value>),
    Config(Box<Located>),
    Findings(Vec<Finding>),
    /// Why it is not for this system.
    Others(Vec<Finding>),
    Include(Include),
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let job = match arguments.as_slice() {
        [] => Some(Job::Read(Wrapping::None)),
        ["--ahead"] => {
            yaml::rehearse();
            Some(Job::Read(Wrapping::None))
        }
        ["--user-data"] => Some(Job::Read(Wrapping::UserData)),
        ["--included", sha256] => Some(Job::Read(Wrapping::Included((*sha256).to_owned()))),
        ["--attributes", form] => Form::named(form).map(Job::Attributes),
        ["--network", form] => network::Form::named(form).map(Job::Network),
        _ => None,
    };
    let Some(job) = job else {
        eprintln!(
            "configure: usage: configure [--ahead | --user-data | --included SHA256 | --attributes FORM | --network FORM]"
        );
        return ExitCode::from(1);
    };
    let found = match job {
        Job::Read(wrapping) => read(io::stdin().lock(), &wrapping),
        Job::Attributes(form) => attributes(io::stdin().lock(), form),
        Job::Network(form) => network(io::stdin().lock(), form),
    };
    match found.and_then(|found| answer(&found, io::stdout().lock())) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("configure: {error}");
            ExitCode::from(1)
        }
    }
}

/// No more than tells that it is too long, and nothing is kept waiting for the rest.
fn bytes_of(input: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    input.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn network(input: impl Read, form: network::Form) -> io::Result<Answer> {
    let description = form.documents(&bytes_of(input)?).map_err(io::Error::other)?;
    Ok(Answer::Network(description.told()))
}

fn attributes(input: impl Read, form: Form) -> io::Result<Answer> {
    form.attributes(&bytes_of(input)?).map(Answer::Attributes).map_err(io::Error::other)
}

/// Reads a configuration.
fn read(input: impl Read, wrapping: &Wrapping) -> io::Result<Answer> {
    let bytes = bytes_of(input)?;
    let unwrapped = match wrapping {
        Wrapping::None => return Ok(parse(&bytes)),
        Wrapping::UserData => match user_data::unwrap(&bytes, false) {
            Err(UserDataError::Empty) => return Ok(Answer::Nothing),
            Err(error @ (UserDataError::Foreign { .. } | UserDataError::NoPart(_))) => {
                return Ok(Answer::Others(finding(error.to_string())));
            }
            unwrapped => unwrapped.map_err(|error| error.to_string()),
        },
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
        Err(message) => Answer::Findings(finding(message)),
    })
}

/// A finding that is of no document.
fn finding(message: String) -> Vec<Finding> {
    vec![Finding {
        document: 0,
        kind: String::new(),
        path: String::new(),
        line: 0,
        message,
        expected: String::new(),
        warning: false,
    }]
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
        Answer::Nothing => (4, Vec::new()),
        Answer::Network(documents) => (0, serde_json::to_vec(documents)?),
        Answer::Attributes(attributes) => (0, serde_json::to_vec(attributes)?),
        Answer::Findings(findings) => (2, serde_json::to_vec(findings)?),
        Answer::Others(findings) => (5, serde_json::to_vec(findings)?),
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
    fn nothing_is_no_mistake_where_others_are_asked_next() {
        let context = "# Context variables generated by OpenNebula\nVMID='7'\n";
        for nothing in ["", " \n", context] {
            assert_eq!(run(nothing.as_bytes(), &Wrapping::UserData), (4, String::new()));
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
    fn what_is_for_others_is_told_from_what_is_wrong() {
        let (code, output) = run("#!/bin/sh\n".as_bytes(), &Wrapping::UserData);
        assert_eq!((code, output.contains("is a script")), (5, true), "{output}");
        let parts = "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=x\n\n\
            --x\nContent-Type: text/x-shellscript\n\n#!/bin/sh\n--x--\n";
        let (code, output) = run(parts.as_bytes(), &Wrapping::UserData);
        assert_eq!((code, output.contains("none of the parts")), (5, true), "{output}");
        assert_eq!(run("#include\n".as_bytes(), &Wrapping::UserData).0, 2);
        assert_eq!(run("#!/bin/sh\n".as_bytes(), &Wrapping::None).0, 2);
    }
}
