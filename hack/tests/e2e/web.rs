// SPDX-License-Identifier: Apache-2.0
//! A web server with moods, on this host, which a required check of a node asks.

use crate::world::{Kept, field, resources, with_more};
use anyhow::Result;
use hack::{machine::free_port, node::BOOT};
use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    thread,
};

/// How it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    /// Well.
    Good,
    /// Never well.
    Bad,
    /// Well every second time.
    Fickle,
}

/// The server. It ends with the process.
#[derive(Debug)]
pub(crate) struct Web {
    mood: Arc<AtomicU8>,
}

impl Web {
    /// A good one, which the node's check `web` asks, and has found good.
    pub(crate) fn watched(node: &Kept, deadline: &str) -> Result<Self> {
        let port = free_port()?;
        let mood = Arc::new(AtomicU8::new(0));
        serve(TcpListener::bind(("127.0.0.1", port))?, Arc::clone(&mood));
        let check = format!(
            "---\napiVersion: stele/v1\nkind: HealthCheck\nname: web\ninterval: 1s\ntimeout: 2s\ndeadline: {deadline}\n\
             http: {{url: \"http://10.0.2.2:{port}/healthz\", status: 200}}\n"
        );
        let file = with_more(node, &check)?;
        node.ctl.run(["apply-config", "-f", &file.to_string_lossy()])?;
        node.wait_until("the check passes", BOOT, || Ok(state_of(node, "web")? == "passing"))?;
        Ok(Self { mood })
    }

    /// Changes its mood.
    pub(crate) fn feel(&self, mood: Mood) {
        let number = match mood {
            Mood::Good => 0,
            Mood::Bad => 1,
            Mood::Fickle => 2,
        };
        self.mood.store(number, Ordering::SeqCst);
    }
}

/// The state of a check, empty if there is none.
pub(crate) fn state_of(node: &Kept, check: &str) -> Result<String> {
    let checks = resources(node, "healthcheck")?;
    let found = checks.iter().find(|found| found["name"] == check);
    Ok(found.and_then(|found| field(found, "state").ok()).unwrap_or_default())
}

fn serve(listener: TcpListener, mood: Arc<AtomicU8>) {
    thread::spawn(move || {
        for (number, mut stream) in listener.incoming().flatten().enumerate() {
            let mut request = [0; 2048];
            let _asked = stream.read(&mut request);
            let good = match mood.load(Ordering::SeqCst) {
                0 => true,
                1 => false,
                _ => number % 2 == 0,
            };
            let status = if good { "200 OK" } else { "503 Service Unavailable" };
            let answer =
                format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            let _told = stream.write_all(answer.as_bytes());
        }
    });
}
