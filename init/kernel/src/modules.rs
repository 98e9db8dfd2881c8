// SPDX-License-Identifier: Apache-2.0
//! Loading and unloading a kernel module; see finit_module(2) and delete_module(2).

use std::{ffi::CString, fs::File, io, path::Path};

/// O_NONBLOCK: one that is in use is no reason to wait.
const NONBLOCK: i32 = 0o4000;

/// Unloads a module that nothing uses.
pub fn unload(name: &str) -> io::Result<()> {
    Ok(rustix::system::delete_module(&CString::new(name)?, NONBLOCK)?)
}

/// Loads the module in `file` with these parameters. One that is loaded already is no error.
pub fn load(file: &Path, parameters: &str) -> io::Result<()> {
    let parameters = CString::new(parameters)?;
    match rustix::system::finit_module(&File::open(file)?, &parameters, 0) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}
