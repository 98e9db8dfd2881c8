// SPDX-License-Identifier: Apache-2.0
//! The kernel's random generator; see random(4) and getrandom(2).

use std::{fs::OpenOptions, io, os::fd::AsRawFd as _};

/// The size of a saved seed: twice the generator's strength.
pub const SEED_BYTES: usize = 64;

/// `struct rand_pool_info` with room for a seed.
#[repr(C)]
struct PoolInfo {
    entropy_count: libc::c_int,
    size: libc::c_int,
    buffer: [u8; SEED_BYTES],
}

/// `_IOW('R', 0x03, int[2])`.
const RNDADDENTROPY: libc::Ioctl =
    nix::request_code_write!(b'R', 0x03, size_of::<[libc::c_int; 2]>());

/// Mixes a seed in and credits it: it must come from an earlier boot of this machine, and be used once.
#[expect(unsafe_code, reason = "an ioctl that neither rustix nor nix wraps")]
pub fn credit(seed: [u8; SEED_BYTES]) -> io::Result<()> {
    let device = OpenOptions::new().write(true).open("/dev/urandom")?;
    let size = libc::c_int::try_from(SEED_BYTES).map_err(io::Error::other)?;
    let info = PoolInfo { entropy_count: size.saturating_mul(8), size, buffer: seed };
    // SAFETY: `info` is a `struct rand_pool_info` whose `size` counts the bytes of its buffer; the kernel only reads it.
    let result = unsafe { libc::ioctl(device.as_raw_fd(), RNDADDENTROPY, &raw const info) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Fills a buffer with random bytes. Right after power-on this would wait for the generator; it fails with
/// `WouldBlock` instead.
pub fn fill(buffer: &mut [u8]) -> io::Result<()> {
    let length = rustix::rand::getrandom(&mut *buffer, rustix::rand::GetRandomFlags::NONBLOCK)?;
    if length == buffer.len() { Ok(()) } else { Err(io::ErrorKind::WouldBlock.into()) }
}
