// SPDX-License-Identifier: Apache-2.0
//! The kernel's log: the kernel's Documentation/ABI/testing/dev-kmsg.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, RawFd},
        unix::fs::OpenOptionsExt as _,
    },
};

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// RFC 5424 severity.
    pub severity: u8,
    /// RFC 5424 facility: 0 for the kernel itself.
    pub facility: u32,
    /// Counts up; a gap means lost records.
    pub sequence: u64,
    /// Microseconds since boot.
    pub time_us: u64,
    /// The text.
    pub message: String,
}

/// Reads records from the oldest on, without waiting.
#[derive(Debug)]
pub struct Reader(File);

impl Reader {
    /// Opens the log at its beginning.
    pub fn open() -> io::Result<Reader> {
        let flags = libc::O_NONBLOCK | libc::O_CLOEXEC;
        Ok(Reader(OpenOptions::new().read(true).custom_flags(flags).open("/dev/kmsg")?))
    }

    /// Takes the next record; `None` when there is none right now.
    pub fn read(&mut self) -> io::Result<Option<Record>> {
        let mut buffer = [0; 8192];
        loop {
            match self.0.read(&mut buffer) {
                Ok(0) => return Ok(None),
                Ok(length) => {
                    let text = String::from_utf8_lossy(buffer.get(..length).unwrap_or_default());
                    if let Some(record) = parse(&text) {
                        return Ok(Some(record));
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                // Records were overwritten before we came: the next read continues with the oldest there is.
                Err(error) if error.raw_os_error() == Some(libc::EPIPE) => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl AsRawFd for Reader {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl AsFd for Reader {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Reads `PRIORITY,SEQUENCE,MICROSECONDS,FLAGS[,…];MESSAGE\n[ KEY=VALUE\n…]`.
#[must_use]
pub fn parse(text: &str) -> Option<Record> {
    let (head, rest) = text.split_once(';')?;
    let mut fields = head.split(',');
    let priority: u32 = fields.next()?.parse().ok()?;
    let sequence = fields.next()?.parse().ok()?;
    let time_us = fields.next()?.parse().ok()?;
    let message = rest.lines().next().unwrap_or_default().to_owned();
    let severity = u8::try_from(priority & 7).ok()?;
    Some(Record { severity, facility: priority >> 3, sequence, time_us, message })
}

/// Writes records.
#[derive(Debug)]
pub struct Writer(File);

impl Writer {
    /// Opens the log for writing.
    pub fn open() -> io::Result<Writer> {
        let flags = libc::O_NONBLOCK | libc::O_CLOEXEC;
        Ok(Writer(OpenOptions::new().write(true).custom_flags(flags).open("/dev/kmsg")?))
    }

    /// Writes one record of facility daemon. A log that can't be written is nothing to fail over.
    pub fn write(&self, severity: u8, message: &str) {
        // The kernel refuses records over 976 bytes or so (PRINTK_MESSAGE_MAX less its prefix).
        let end = message.floor_char_boundary(900);
        let line = format!("<{}>{}", priority(severity), message.get(..end).unwrap_or_default());
        drop((&self.0).write(line.as_bytes()));
    }
}

/// What the records begin with that a [`Writer`] writes: facility daemon and this severity, as in RFC 5424, 6.2.1.
#[must_use]
pub const fn priority(severity: u8) -> u8 {
    (3 << 3) | (severity & 7)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read() {
        let record = parse("6,339,5140900,-;NET: Registered PF_VSOCK\n SUBSYSTEM=x\n").unwrap();
        assert_eq!((record.severity, record.facility, record.sequence), (6, 0, 339));
        assert_eq!(
            (record.time_us, record.message.as_str()),
            (5_140_900, "NET: Registered PF_VSOCK")
        );
        assert_eq!(parse("30,1,2,-;init: hello\n").unwrap().facility, 3);
        assert_eq!(parse("garbage"), None);
    }
}
