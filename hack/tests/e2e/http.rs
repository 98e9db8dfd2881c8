// SPDX-License-Identifier: Apache-2.0
//! A web server on this host, which the guest sees at 10.0.2.2.

use anyhow::{Context as _, Result};
use hack::machine::free_port;
use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

/// A running server. It ends when this value is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    port: u16,
}

impl Server {
    /// Serves the files in `dir`.
    pub(crate) fn start(dir: &Path) -> Result<Self> {
        let port = free_port()?;
        let mut child = Command::new("/usr/bin/python3")
            .args([
                "-u",
                "-m",
                "http.server",
                &port.to_string(),
                "--bind",
                "127.0.0.1",
                "--directory",
            ])
            .arg(dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("Starting a web server")?;
        let stdout = child.stdout.take().context("The web server has no standard output")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).context("Waiting for the web server")?;
        Ok(Self { child, port })
    }

    /// Its port on this host.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Where the guest finds a file.
    pub(crate) fn url(&self, file: &str) -> String {
        format!("http://10.0.2.2:{}/{file}", self.port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _status = self.child.wait();
    }
}
