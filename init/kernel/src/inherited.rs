// SPDX-License-Identifier: Apache-2.0
//! Descriptors that a program was started with.

use std::{
    io,
    os::fd::{BorrowedFd, OwnedFd},
};

/// A descriptor of one's own for what the program was started with at this number. The original stays open.
///
/// # Errors
/// When there is nothing at this number.
pub fn descriptor(number: i32) -> io::Result<OwnedFd> {
    if number < 0 {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    Ok(rustix::io::fcntl_dupfd_cloexec(borrow(number), 0)?)
}

#[expect(unsafe_code, reason = "an inherited descriptor is known by its number alone")]
fn borrow(number: i32) -> BorrowedFd<'static> {
    // SAFETY: the number is not -1. Should it be closed, the one call that uses it answers EBADF and touches nothing.
    unsafe { BorrowedFd::borrow_raw(number) }
}

#[cfg(test)]
mod tests {
    use super::descriptor;

    #[test]
    fn only_what_is_open_can_be_had() {
        assert!(descriptor(2).is_ok());
        for number in [-1, -7, 1_000_000] {
            assert_eq!(
                descriptor(number).expect_err("nothing there").raw_os_error(),
                Some(libc::EBADF)
            );
        }
    }
}
