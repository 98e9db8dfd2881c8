// SPDX-License-Identifier: Apache-2.0
//! A bad connection: a proxy in front of a web server that cuts off, alters, slows down or sends round in circles what
//! is large. What is small goes through.

use anyhow::{Context as _, Result};
use hack::machine::free_port;
use std::{
    io::{BufRead, BufReader, Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::Duration,
};

/// What it does to large bodies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// It breaks off after so many bytes; so many times, and then no more.
    BreaksOff { after: u64, times: u32 },
    /// One byte is another.
    Alters,
    /// It brings so many bytes a second.
    Slow { rate: u64 },
    /// It sends whoever asks to where they asked.
    Circle,
}

/// What is large.
const LARGE: u64 = 1 << 20;
const CHUNK: usize = 64 * 1024;

/// The proxy. It ends with the process.
#[derive(Debug)]
pub(crate) struct Proxy {
    port: u16,
    broken: Arc<AtomicU32>,
}

impl Proxy {
    /// In front of the server at this port.
    pub(crate) fn start(server: u16, trouble: Trouble) -> Result<Self> {
        let port = free_port()?;
        let listener = TcpListener::bind(("127.0.0.1", port)).context("Listening")?;
        let broken = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&broken);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let count = Arc::clone(&count);
                // Who hangs up in the middle is told of by the other end.
                thread::spawn(move || pass(stream, port, server, trouble, &count).ok());
            }
        });
        Ok(Self { port, broken })
    }

    /// Where the guest finds it.
    pub(crate) fn host(&self) -> String {
        format!("10.0.2.2:{}", self.port)
    }

    /// How often it has broken off.
    pub(crate) fn broken(&self) -> u32 {
        self.broken.load(Ordering::SeqCst)
    }
}

/// One request.
fn pass(
    mut client: TcpStream,
    port: u16,
    server: u16,
    trouble: Trouble,
    broken: &AtomicU32,
) -> Result<()> {
    let request = head(&mut BufReader::new(client.try_clone()?))?;
    let path = request.split_whitespace().nth(1).unwrap_or("/").to_owned();
    let mut upstream = TcpStream::connect(("127.0.0.1", server))?;
    let lines = request.lines().filter(|line| {
        let line = line.to_ascii_lowercase();
        !line.is_empty() && !line.starts_with("connection:") && !line.starts_with("host:")
    });
    let asked: Vec<&str> = lines.collect();
    let asked =
        format!("{}\r\nHost: 127.0.0.1:{server}\r\nConnection: close\r\n\r\n", asked.join("\r\n"));
    upstream.write_all(asked.as_bytes())?;
    let mut upstream = BufReader::new(upstream);
    let answer = head(&mut upstream)?;
    let length = answer
        .lines()
        .find_map(|line| {
            line.to_ascii_lowercase().strip_prefix("content-length:").map(str::to_owned)
        })
        .and_then(|length| length.trim().parse::<u64>().ok())
        .unwrap_or(0);
    if length < LARGE {
        client.write_all(answer.as_bytes())?;
        std::io::copy(&mut upstream, &mut client)?;
        return Ok(());
    }
    if trouble == Trouble::Circle {
        let circle = format!(
            "HTTP/1.1 307 Temporary Redirect\r\nLocation: http://10.0.2.2:{port}{path}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
        client.write_all(circle.as_bytes())?;
        return Ok(());
    }
    client.write_all(answer.as_bytes())?;
    let mut chunk = vec![0; CHUNK];
    let mut done = 0;
    loop {
        let read = upstream.read(&mut chunk)?;
        if read == 0 {
            return Ok(());
        }
        let chunk = &mut chunk[..read];
        match trouble {
            Trouble::BreaksOff { after, times } => {
                if done >= after && broken.load(Ordering::SeqCst) < times {
                    broken.fetch_add(1, Ordering::SeqCst);
                    client.shutdown(Shutdown::Both)?;
                    return Ok(());
                }
            }
            Trouble::Alters => {
                if done == 0 {
                    chunk[read / 2] ^= 0x40;
                }
            }
            Trouble::Slow { rate } => {
                thread::sleep(Duration::from_secs_f64(read as f64 / rate as f64));
            }
            Trouble::Circle => {}
        }
        client.write_all(chunk)?;
        done += read as u64;
    }
}

/// The head of a request or an answer, with the empty line at its end.
fn head(reader: &mut impl BufRead) -> Result<String> {
    let mut head = String::new();
    loop {
        let before = head.len();
        reader.read_line(&mut head)?;
        if head.len() - before <= 2 {
            return Ok(head);
        }
    }
}
