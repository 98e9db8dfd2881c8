// SPDX-License-Identifier: Apache-2.0
//! QEMU's debugger stub, by the remote protocol of gdb
//! (<https://sourceware.org/gdb/current/onlinedocs/gdb.html/Remote-Protocol.html>): a machine that stops where it is told to, is
//! looked at, changed, and goes on.
//!
//! A machine is stopped from [`Debugger::attach`] on, until it is told to go on, and what is attached stays so for as long as
//! the machine runs: its breakpoints do.

use anyhow::{Context as _, Result, bail, ensure};
use std::{
    fmt::Write as _,
    io::{BufReader, Read as _, Write as _},
    os::unix::net::UnixStream,
    path::Path,
};

/// Registers, by the numbers that gdb has for them on x86-64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "they are the processor's own names")]
pub enum Register {
    Rax = 0,
    Rbx = 1,
    Rcx = 2,
    Rdx = 3,
    Rsi = 4,
    Rdi = 5,
    Rsp = 7,
    Rip = 16,
}

/// The most bytes that are read at once; a packet has half as many as QEMU's 4096 characters.
const LONGEST_READ: usize = 1024;

/// A connection to the stub.
#[derive(Debug)]
pub struct Debugger {
    stream: BufReader<UnixStream>,
}

/// The registers of a machine that is stopped.
#[derive(Debug)]
pub struct Registers(Vec<u8>);

impl Registers {
    /// What is in one of them.
    pub fn get(&self, register: Register) -> Result<u64> {
        let found = self.0.get(register as usize * 8..).and_then(<[u8]>::first_chunk);
        Ok(u64::from_le_bytes(*found.context("The stub has fewer registers")?))
    }
}

impl Debugger {
    /// Takes hold of a machine, at the socket of [`crate::machine::Machine::with_debugger`].
    pub fn attach(socket: &Path) -> Result<Self> {
        let stream = UnixStream::connect(socket)
            .with_context(|| format!("Connecting to {}", socket.display()))?;
        let mut debugger = Self { stream: BufReader::new(stream) };
        let stopped = debugger.receive()?;
        ensure!(stopped.starts_with(['S', 'T']), "The machine does not stop: {stopped}");
        // QEMU lets single registers be written by those alone who have asked for their description.
        debugger.ask("qXfer:features:read:target.xml:0,ffb")?;
        Ok(debugger)
    }

    /// Stops the machine from now on before it does what is at this address.
    pub fn stop_at(&mut self, address: u64) -> Result<()> {
        self.command(&format!("Z1,{address:x},1"))
    }

    /// Lets the machine go on, and waits until it stops. False when it has ended.
    pub fn go_on(&mut self) -> bool {
        let stopped = self.ask("c");
        stopped.is_ok_and(|answer| answer.starts_with(['S', 'T']))
    }

    /// Has it do the one thing at this address, where it stops otherwise.
    pub fn step_over(&mut self, address: u64) -> Result<()> {
        self.command(&format!("z1,{address:x},1"))?;
        self.ask("s")?;
        self.stop_at(address)
    }

    /// What is in its registers.
    pub fn registers(&mut self) -> Result<Registers> {
        Ok(Registers(bytes(&self.ask("g")?)?))
    }

    /// Writes a register.
    pub fn set(&mut self, register: Register, value: u64) -> Result<()> {
        self.command(&format!("P{:x}={}", register as usize, hex(&value.to_le_bytes())))
    }

    /// Reads memory, as the code that runs sees it.
    pub fn read(&mut self, address: u64, length: usize) -> Result<Vec<u8>> {
        let mut found = Vec::new();
        while found.len() < length {
            let (from, count) =
                (address + found.len() as u64, (length - found.len()).min(LONGEST_READ));
            let answer = self.ask(&format!("m{from:x},{count:x}"))?;
            let read = bytes(&answer).with_context(|| format!("Reading at {from:#x}"))?;
            ensure!(read.len() == count, "At {from:#x} there is nothing to read: {answer}");
            found.extend(read);
        }
        Ok(found)
    }

    /// Reads a number.
    pub fn number(&mut self, address: u64) -> Result<u64> {
        let read = self.read(address, 8)?;
        Ok(u64::from_le_bytes(*read.first_chunk().context("Eight bytes were read")?))
    }

    /// Writes a number to memory.
    pub fn write(&mut self, address: u64, value: u64) -> Result<()> {
        self.command(&format!("M{address:x},8:{}", hex(&value.to_le_bytes())))
    }

    fn command(&mut self, packet: &str) -> Result<()> {
        let answer = self.ask(packet)?;
        ensure!(answer == "OK", "The stub answers {answer:?} to {packet}");
        Ok(())
    }

    fn ask(&mut self, packet: &str) -> Result<String> {
        self.send(packet)?;
        self.receive()
    }

    fn send(&mut self, packet: &str) -> Result<()> {
        let sum = packet.bytes().fold(0_u8, u8::wrapping_add);
        let framed = format!("${packet}#{sum:02x}");
        self.stream.get_mut().write_all(framed.as_bytes()).context("Sending to the stub")
    }

    /// Receives a packet; what is between packets says that ours came.
    fn receive(&mut self) -> Result<String> {
        while self.byte()? != b'$' {}
        let mut text = String::new();
        loop {
            match self.byte()? {
                b'#' => break,
                // What follows is one character that would otherwise mean something to the protocol.
                b'}' => text.push(char::from(self.byte()? ^ 0x20)),
                byte => text.push(char::from(byte)),
            }
        }
        let _checksum = [self.byte()?, self.byte()?];
        self.stream.get_mut().write_all(b"+").context("Thanking the stub")?;
        Ok(text)
    }

    fn byte(&mut self) -> Result<u8> {
        let mut byte = [0];
        self.stream.read_exact(&mut byte).context("Hearing from the stub")?;
        Ok(byte[0])
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string does not fail.
        let _written = write!(text, "{byte:02x}");
        text
    })
}

fn bytes(hex: &str) -> Result<Vec<u8>> {
    let digits = |at| hex.get(at..at + 2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
    let found: Option<Vec<u8>> = (0..hex.len()).step_by(2).map(digits).collect();
    let Some(found) = found else { bail!("The stub answers {hex:?}") };
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{os::unix::net::UnixListener, thread};

    #[test]
    fn packets_are_framed_and_understood() {
        let scratch = crate::scratch::folder("debugger").unwrap();
        let socket = scratch.path().join("gdb");
        let listener = UnixListener::bind(&socket).unwrap();
        let stub = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            write!(stream, "$T02thread:01;#00").unwrap();
            for (asked, answer) in [
                ("+$qXfer:features:read:target.xml:0,ffb#79", "l<target/>"),
                ("+$g#67", "0100000000000000ff00000000000000"),
                ("+$P1=0700000000000000#c5", "OK"),
                ("+$m10,8#32", "2a00000000000000"),
                ("+$Z1,20,1#76", "E22"),
                ("+$c#63", "T05thread:01;}\n*"),
            ] {
                let mut read = vec![0; asked.len()];
                stream.read_exact(&mut read).unwrap();
                assert_eq!(String::from_utf8(read).unwrap(), asked);
                write!(stream, "+${answer}#00").unwrap();
            }
            stream.read_exact(&mut [0]).unwrap();
        });
        let mut debugger = Debugger::attach(&socket).unwrap();
        assert_eq!(debugger.registers().unwrap().get(Register::Rbx).unwrap(), 0xff);
        debugger.set(Register::Rbx, 7).unwrap();
        assert_eq!(debugger.number(0x10).unwrap(), 42);
        assert!(debugger.stop_at(0x20).unwrap_err().to_string().contains("E22"));
        assert!(debugger.go_on());
        stub.join().unwrap();
        assert!(!debugger.go_on());
    }
}
