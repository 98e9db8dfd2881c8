// SPDX-License-Identifier: Apache-2.0
//! Watchdogs: what restarts the machine unless it is told in time not to; see the kernel's
//! Documentation/watchdog/watchdog-api.rst.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::fd::AsRawFd as _,
    path::{Path, PathBuf},
    time::Duration,
};

const CLASS: &str = "/sys/class/watchdog";

/// `_IOWR('W', 6, int)`.
const WDIOC_SETTIMEOUT: libc::Ioctl =
    nix::request_code_readwrite!(b'W', 6, size_of::<libc::c_int>());
/// `WDIOF_CARDRESET`, include/uapi/linux/watchdog.h.
const CARD_RESET: u32 = 0x20;

/// The names of the watchdogs of this machine: `watchdog0`.
pub fn names() -> io::Result<Vec<String>> {
    match fs::read_dir(CLASS) {
        Ok(entries) => {
            entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Whether a watchdog restarted the machine last, as far as one remembers.
#[must_use]
pub fn has_restarted() -> bool {
    let remembers = |name: &String| reset_by(&Path::new(CLASS).join(name));
    names().is_ok_and(|names| names.iter().any(remembers))
}

fn reset_by(folder: &Path) -> bool {
    let status = attribute(folder, "bootstatus");
    status.parse::<u32>().is_ok_and(|status| status & CARD_RESET != 0)
}

fn attribute(folder: &Path, name: &str) -> String {
    let text = fs::read_to_string(folder.join(name)).unwrap_or_default();
    text.trim().to_owned()
}

/// A watchdog that is running. It stays so when this is dropped: the machine restarts unless someone else feeds it.
#[derive(Debug)]
pub struct Watchdog {
    device: File,
    folder: PathBuf,
}

impl Watchdog {
    /// Starts a watchdog.
    pub fn start(name: &str) -> io::Result<Watchdog> {
        let device = OpenOptions::new().write(true).open(Path::new("/dev").join(name))?;
        Ok(Watchdog { device, folder: Path::new(CLASS).join(name) })
    }

    /// What its driver calls it: `Software Watchdog`, `i6300ESB timer`.
    #[must_use]
    pub fn identity(&self) -> String {
        attribute(&self.folder, "identity")
    }

    /// Whether it was this watchdog that restarted the machine last.
    #[must_use]
    pub fn has_reset(&self) -> bool {
        reset_by(&self.folder)
    }

    /// The longest timeout that it takes, where its driver says so.
    #[must_use]
    pub fn longest(&self) -> Option<Duration> {
        let seconds = attribute(&self.folder, "max_timeout").parse().ok().filter(|max| *max > 0)?;
        Some(Duration::from_secs(seconds))
    }

    /// Sets after how long without [`Watchdog::feed`] it restarts the machine. Returns what it took.
    #[expect(unsafe_code, reason = "an ioctl that neither rustix nor nix wraps")]
    pub fn set_timeout(&self, timeout: Duration) -> io::Result<Duration> {
        let mut seconds = libc::c_int::try_from(timeout.as_secs()).map_err(io::Error::other)?;
        // SAFETY: the kernel reads and writes one int behind this pointer, which is one.
        let result =
            unsafe { libc::ioctl(self.device.as_raw_fd(), WDIOC_SETTIMEOUT, &raw mut seconds) };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
    }

    /// Tells it that all is well.
    pub fn feed(&mut self) -> io::Result<()> {
        self.device.write_all(b"\0")
    }
}
