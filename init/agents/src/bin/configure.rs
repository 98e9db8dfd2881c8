// SPDX-License-Identifier: Apache-2.0
//! `configure`: a configuration in YAML from standard input, in canonical form to standard output.
//!
//! Exit 0 with the canonical form, a JSON array of documents, and on the next line where each of them stood; 2 with a JSON
//! array of findings; 1 when standard input or output fails, with a line on standard error.

#![forbid(unsafe_code)]

use std::io::{self, Read, Write};
use std::process::ExitCode;

use stele_config::{
    Finding, MAX_BYTES, canonical,
    yaml::{self, Located},
};

fn main() -> ExitCode {
    match read(io::stdin().lock()).and_then(|result| answer(&result, io::stdout().lock())) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("configure: {error}");
            ExitCode::from(1)
        }
    }
}

/// Reads a configuration: no more of it than tells that it is too long, and nothing is kept waiting for the rest.
fn read(input: impl Read) -> io::Result<Result<Located, Vec<Finding>>> {
    let mut bytes = Vec::new();
    input.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(yaml::locate(&bytes))
}

/// Writes the answer, and says what to exit with.
fn answer(result: &Result<Located, Vec<Finding>>, mut output: impl Write) -> io::Result<u8> {
    let (code, bytes) = match result {
        Ok(Located { config, places }) => {
            let mut bytes = canonical::write(config);
            bytes.push(b'\n');
            serde_json::to_writer(&mut bytes, places)?;
            (0, bytes)
        }
        Err(findings) => (2, serde_json::to_vec(findings)?),
    };
    output.write_all(&bytes)?;
    output.flush()?;
    Ok(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(input: impl Read) -> (u8, String) {
        let mut output = Vec::new();
        let code = answer(&read(input).unwrap(), &mut output).unwrap();
        (code, String::from_utf8(output).unwrap())
    }

    #[test]
    fn findings_are_json_with_exit_2() {
        let (code, output) = run("kind: Lnik\n".as_bytes());
        let findings: Vec<Finding> = serde_json::from_str(&output).unwrap();
        assert_eq!(code, 2);
        assert!(
            findings.iter().any(|finding| finding.message.contains("did you mean \"Link\"")),
            "{output}"
        );
    }

    #[test]
    fn endless_input_ends() {
        let (code, output) = run(io::repeat(b'#'));
        assert_eq!(code, 2);
        assert!(output.contains("too long"), "{output}");
    }
}
