// SPDX-License-Identifier: Apache-2.0
//! A file as a read-only block device; see loop(4) and the kernel's include/uapi/linux/loop.h.

use std::{
    fs::{File, OpenOptions},
    io,
    os::fd::{AsRawFd, RawFd},
    path::PathBuf,
};

const LOOP_CONFIGURE: libc::Ioctl = 0x4C0A;
const LOOP_CTL_GET_FREE: libc::Ioctl = 0x4C82;
const LO_FLAGS_READ_ONLY: u32 = 1;
const LO_FLAGS_AUTOCLEAR: u32 = 4;

/// `struct loop_info64`.
#[repr(C)]
struct LoopInfo {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    sizelimit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// `struct loop_config`.
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo,
    reserved: [u64; 8],
}

/// Binds `file` to a free loop device and returns the device's path and its open descriptor: the device goes away by
/// itself when the last user closes it, so the descriptor must be held until it is mounted.
pub fn attach(file: &File) -> io::Result<(PathBuf, File)> {
    attach_window(file, 0, 0)
}

/// The same with `length` bytes of the file from `offset` on; with 0 bytes, with all that follow.
pub fn attach_window(file: &File, offset: u64, length: u64) -> io::Result<(PathBuf, File)> {
    let control = OpenOptions::new().read(true).write(true).open("/dev/loop-control")?;
    let number = get_free(control.as_raw_fd())?;
    let path = PathBuf::from(format!("/dev/loop{number}"));
    let device = OpenOptions::new().read(true).open(&path)?;
    let config = LoopConfig {
        fd: u32::try_from(file.as_raw_fd()).map_err(io::Error::other)?,
        block_size: 0,
        info: LoopInfo {
            device: 0,
            inode: 0,
            rdevice: 0,
            offset,
            sizelimit: length,
            number: 0,
            encrypt_type: 0,
            encrypt_key_size: 0,
            flags: LO_FLAGS_READ_ONLY | LO_FLAGS_AUTOCLEAR,
            file_name: [0; 64],
            crypt_name: [0; 64],
            encrypt_key: [0; 32],
            init: [0; 2],
        },
        reserved: [0; 8],
    };
    configure(device.as_raw_fd(), &config)?;
    Ok((path, device))
}

#[expect(unsafe_code, reason = "an ioctl that neither rustix nor nix wraps")]
fn get_free(control: RawFd) -> io::Result<i32> {
    // SAFETY: LOOP_CTL_GET_FREE takes no argument and touches no memory of ours.
    let number = unsafe { libc::ioctl(control, LOOP_CTL_GET_FREE) };
    if number < 0 { Err(io::Error::last_os_error()) } else { Ok(number) }
}

#[expect(unsafe_code, reason = "an ioctl that neither rustix nor nix wraps")]
fn configure(device: RawFd, config: &LoopConfig) -> io::Result<()> {
    // SAFETY: `config` is a valid `struct loop_config` (repr(C), same fields), which the kernel only reads.
    let result = unsafe { libc::ioctl(device, LOOP_CONFIGURE, std::ptr::from_ref(config)) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_have_the_kernel_s_sizes() {
        assert_eq!(size_of::<LoopInfo>(), 232);
        assert_eq!(size_of::<LoopConfig>(), 8 + 232 + 64);
    }
}
