// SPDX-License-Identifier: Apache-2.0
//! Telling the kernel of a partition; see the kernel's include/uapi/linux/blkpg.h.

use std::{
    fs::File,
    io,
    os::fd::{AsRawFd, RawFd},
    ptr,
};

const BLKPG: libc::Ioctl = 0x1269;
const BLKPG_ADD_PARTITION: libc::c_int = 1;

/// `struct blkpg_partition`.
#[repr(C)]
struct Partition {
    start: libc::c_longlong,
    length: libc::c_longlong,
    number: libc::c_int,
    device_name: [u8; 64],
    volume_name: [u8; 64],
}

/// `struct blkpg_ioctl_arg`.
#[repr(C)]
struct Argument {
    operation: libc::c_int,
    flags: libc::c_int,
    length: libc::c_int,
    data: *mut Partition,
}

/// Makes the kernel know the partition `number` of `disk`, `length` bytes from byte `start` on. Other partitions of the
/// disk may be in use.
pub fn add_partition(disk: &File, number: u32, start: u64, length: u64) -> io::Result<()> {
    let mut partition = Partition {
        start: libc::c_longlong::try_from(start).map_err(io::Error::other)?,
        length: libc::c_longlong::try_from(length).map_err(io::Error::other)?,
        number: libc::c_int::try_from(number).map_err(io::Error::other)?,
        device_name: [0; 64],
        volume_name: [0; 64],
    };
    let argument = Argument {
        operation: BLKPG_ADD_PARTITION,
        flags: 0,
        length: libc::c_int::try_from(size_of::<Partition>()).map_err(io::Error::other)?,
        data: ptr::from_mut(&mut partition),
    };
    blkpg(disk.as_raw_fd(), &argument)
}

#[expect(unsafe_code, reason = "an ioctl that neither rustix nor nix wraps")]
fn blkpg(disk: RawFd, argument: &Argument) -> io::Result<()> {
    // SAFETY: BLKPG reads one `blkpg_ioctl_arg` and, through it, one `blkpg_partition`; both are laid out as the kernel's,
    // and both live until the call is over.
    let result = unsafe { libc::ioctl(disk, BLKPG, ptr::from_ref(argument)) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
