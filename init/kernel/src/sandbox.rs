// SPDX-License-Identifier: Apache-2.0
//! What a process gives up before it becomes a service; see capabilities(7), seccomp(2), landlock(7), setresuid(2).
//!
//! These functions change the calling process and are meant for the executor alone, in the order in which they stand
//! here.

use caps::{CapSet, Capability, CapsHashSet};
use landlock::{
    ABI, Access as _, AccessFs, AccessNet, CompatLevel, Compatible as _, PathBeneath, PathFd,
    Ruleset, RulesetAttr as _, RulesetCreatedAttr as _, Scope,
};
use nix::sys::resource::{Resource, setrlimit};
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid, setsid};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};
use std::{
    collections::BTreeMap,
    io,
    os::fd::{AsRawFd as _, BorrowedFd, OwnedFd},
    path::PathBuf,
    str::FromStr as _,
};

/// Starts a session of its own.
pub fn new_session() -> io::Result<()> {
    setsid()?;
    Ok(())
}

/// Allows at most this many open files, and no core dumps.
pub fn limit_files(files: u64) -> io::Result<()> {
    setrlimit(Resource::RLIMIT_NOFILE, files, files)?;
    Ok(setrlimit(Resource::RLIMIT_CORE, 0, 0)?)
}

/// Allows at most this many seconds of processor time.
pub fn limit_cpu(seconds: u64) -> io::Result<()> {
    Ok(setrlimit(Resource::RLIMIT_CPU, seconds, seconds)?)
}

/// Opens an inherited descriptor once more, at the lowest free number from `above` on.
pub fn duplicate_above(inherited: i32, above: i32) -> io::Result<OwnedFd> {
    Ok(rustix::io::fcntl_dupfd_cloexec(borrow(inherited), above)?)
}

#[expect(unsafe_code, reason = "an inherited descriptor is known by its number alone")]
fn borrow(number: i32) -> BorrowedFd<'static> {
    // SAFETY: the number came from PID 1, which keeps it open over the start of this process, and nothing here closes it.
    unsafe { BorrowedFd::borrow_raw(number) }
}

/// Puts an open file at the descriptor `number`.
pub fn place(fd: BorrowedFd<'_>, number: i32) -> io::Result<()> {
    if fd.as_raw_fd() == number {
        rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::empty())?;
        return Ok(());
    }
    let mut target = reserve(number);
    rustix::io::dup2(fd, &mut target)?;
    // The descriptor belongs to the program that is started next.
    std::mem::forget(target);
    Ok(())
}

#[expect(unsafe_code, reason = "dup2 needs an owned descriptor for the place it fills")]
fn reserve(number: i32) -> OwnedFd {
    use std::os::fd::FromRawFd as _;
    // SAFETY: the executor owns every descriptor of its process; `place` forgets this one after filling it, so it is
    // never closed twice.
    unsafe { OwnedFd::from_raw_fd(number) }
}

/// Closes every descriptor from `first` on when the next program starts.
#[expect(unsafe_code, reason = "close_range(2) is wrapped by neither rustix nor nix")]
pub fn close_from(first: u32) -> io::Result<()> {
    // SAFETY: with CLOSE_RANGE_CLOEXEC nothing is closed now; descriptors only become close-on-exec.
    let result =
        unsafe { libc::close_range(first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC.cast_signed()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Leaves only these paths of the file system, and no TCP port to bind or connect to unless `network`.
pub fn restrict_files(
    read: &[PathBuf],
    write: &[PathBuf],
    network: bool,
) -> Result<(), LandlockError> {
    let abi = ABI::V6;
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(abi))
        .map_err(LandlockError::Prepare)?;
    if !network {
        ruleset =
            ruleset.handle_access(AccessNet::from_all(abi)).map_err(LandlockError::Prepare)?;
    }
    let mut ruleset = ruleset
        .scope(Scope::from_all(abi))
        .and_then(Ruleset::create)
        .map_err(LandlockError::Prepare)?;
    let readable = read.iter().map(|path| (path, AccessFs::from_read(abi)));
    let writable = write.iter().map(|path| (path, AccessFs::from_all(abi)));
    for (path, access) in readable.chain(writable) {
        let fd = PathFd::new(path)
            .map_err(|source| LandlockError::Path { path: path.clone(), source })?;
        let access = if path.is_dir() { access } else { access & AccessFs::from_file(abi) };
        ruleset = ruleset.add_rule(PathBeneath::new(fd, access)).map_err(LandlockError::Prepare)?;
    }
    ruleset.restrict_self().map_err(LandlockError::Prepare)?;
    Ok(())
}

/// Why [`restrict_files`] failed.
#[derive(Debug, thiserror::Error)]
pub enum LandlockError {
    /// The kernel refused the rules.
    #[error("restricting file access by Landlock")]
    Prepare(#[source] landlock::RulesetError),
    /// A path that should stay accessible is not there.
    #[error("opening {path:?} for a Landlock rule")]
    Path {
        /// The path.
        path: PathBuf,
        /// Why.
        source: landlock::PathFdError,
    },
}

/// Becomes this user and group for good, keeping these capabilities and no way to others.
pub fn become_user(id: u32, keep: &[String]) -> Result<(), CapabilityError> {
    let keep = keep
        .iter()
        .map(|name| {
            Capability::from_str(name)
                .map_err(|_unknown| CapabilityError::Unknown { name: name.clone() })
        })
        .collect::<Result<CapsHashSet, CapabilityError>>()?;
    for capability in caps::all().difference(&keep) {
        // One that this kernel does not know can't be held either.
        if caps::has_cap(None, CapSet::Bounding, *capability).unwrap_or(false) {
            caps::drop(None, CapSet::Bounding, *capability).map_err(CapabilityError::Drop)?;
        }
    }
    caps::securebits::set_keepcaps(true).map_err(CapabilityError::Drop)?;
    let user = |source: nix::errno::Errno| CapabilityError::User { id, source: source.into() };
    setgroups(&[]).map_err(user)?;
    setresgid(Gid::from_raw(id), Gid::from_raw(id), Gid::from_raw(id)).map_err(user)?;
    setresuid(Uid::from_raw(id), Uid::from_raw(id), Uid::from_raw(id)).map_err(user)?;
    if id == 0 {
        return Ok(());
    }
    for set in [CapSet::Effective, CapSet::Permitted, CapSet::Inheritable, CapSet::Ambient] {
        // Raising comes after lowering nothing that is kept: permitted bounds all others.
        caps::set(None, set, &keep).map_err(CapabilityError::Drop)?;
    }
    Ok(())
}

/// Why [`become_user`] failed.
#[derive(Debug, thiserror::Error)]
pub enum CapabilityError {
    /// No capability has this name.
    #[error("{name} is not a capability")]
    Unknown {
        /// The name.
        name: String,
    },
    /// The kernel refused to change the sets.
    #[error("changing capabilities")]
    Drop(#[source] caps::errors::CapsError),
    /// The kernel refused the user id.
    #[error("becoming user {id}")]
    User {
        /// The user id.
        id: u32,
        /// Why.
        source: io::Error,
    },
}

/// Rules out new privileges by executing files, for good.
pub fn no_new_privileges() -> io::Result<()> {
    Ok(rustix::thread::set_no_new_privs(true)?)
}

/// Allows these system calls and no others, for good: any other one ends the process with SIGSYS.
pub fn allow_syscalls(names: &[&str]) -> Result<(), SeccompError> {
    let number =
        |name: &&str| syscall(name).ok_or_else(|| SeccompError::Unknown((*name).to_owned()));
    let rules = names
        .iter()
        .map(|name| Ok((number(name)?, Vec::new())))
        .collect::<Result<BTreeMap<_, _>, SeccompError>>()?;
    let filter = SeccompFilter::new(
        rules,
        SeccompAction::KillProcess,
        SeccompAction::Allow,
        TargetArch::x86_64,
    )
    .map_err(|error| SeccompError::Filter(error.into()))?;
    let program: BpfProgram = filter
        .try_into()
        .map_err(|error: seccompiler::BackendError| SeccompError::Filter(error.into()))?;
    seccompiler::apply_filter(&program).map_err(SeccompError::Filter)
}

/// Why [`allow_syscalls`] failed.
#[derive(Debug, thiserror::Error)]
pub enum SeccompError {
    /// No system call has this name.
    #[error("{0} is not a system call that a set may name")]
    Unknown(String),
    /// The filter could not be made or was refused.
    #[error("installing the filter")]
    Filter(#[source] seccompiler::Error),
}

macro_rules! syscalls {
    ($($name:literal $number:ident,)*) => {
        /// The number of a system call, for those that a set may name.
        #[must_use]
        pub fn syscall(name: &str) -> Option<i64> {
            match name { $($name => Some(libc::$number),)* _ => None }
        }
    };
}

syscalls! {
    "accept4" SYS_accept4,
    "adjtimex" SYS_adjtimex,
    "arch_prctl" SYS_arch_prctl,
    "bind" SYS_bind,
    "brk" SYS_brk,
    "chmod" SYS_chmod,
    "clock_adjtime" SYS_clock_adjtime,
    "clock_getres" SYS_clock_getres,
    "clock_gettime" SYS_clock_gettime,
    "clock_nanosleep" SYS_clock_nanosleep,
    "clock_settime" SYS_clock_settime,
    "clone" SYS_clone,
    "clone3" SYS_clone3,
    "close" SYS_close,
    "connect" SYS_connect,
    "dup" SYS_dup,
    "dup2" SYS_dup2,
    "dup3" SYS_dup3,
    "epoll_create1" SYS_epoll_create1,
    "epoll_ctl" SYS_epoll_ctl,
    "epoll_pwait" SYS_epoll_pwait,
    "epoll_wait" SYS_epoll_wait,
    "eventfd2" SYS_eventfd2,
    "execve" SYS_execve,
    "exit" SYS_exit,
    "exit_group" SYS_exit_group,
    "faccessat2" SYS_faccessat2,
    "fadvise64" SYS_fadvise64,
    "fallocate" SYS_fallocate,
    "fchmod" SYS_fchmod,
    "fchmodat" SYS_fchmodat,
    "fcntl" SYS_fcntl,
    "fdatasync" SYS_fdatasync,
    "fstat" SYS_fstat,
    "fstatfs" SYS_fstatfs,
    "fsync" SYS_fsync,
    "ftruncate" SYS_ftruncate,
    "futex" SYS_futex,
    "getdents64" SYS_getdents64,
    "getegid" SYS_getegid,
    "geteuid" SYS_geteuid,
    "getgid" SYS_getgid,
    "getpeername" SYS_getpeername,
    "getpid" SYS_getpid,
    "getrandom" SYS_getrandom,
    "getsockname" SYS_getsockname,
    "getsockopt" SYS_getsockopt,
    "gettid" SYS_gettid,
    "gettimeofday" SYS_gettimeofday,
    "getuid" SYS_getuid,
    "ioctl" SYS_ioctl,
    "kill" SYS_kill,
    "listen" SYS_listen,
    "lseek" SYS_lseek,
    "madvise" SYS_madvise,
    "membarrier" SYS_membarrier,
    "mkdirat" SYS_mkdirat,
    "mlock" SYS_mlock,
    "mmap" SYS_mmap,
    "mprotect" SYS_mprotect,
    "mremap" SYS_mremap,
    "munmap" SYS_munmap,
    "nanosleep" SYS_nanosleep,
    "newfstatat" SYS_newfstatat,
    "openat" SYS_openat,
    "pidfd_open" SYS_pidfd_open,
    "pipe2" SYS_pipe2,
    "poll" SYS_poll,
    "ppoll" SYS_ppoll,
    "prctl" SYS_prctl,
    "pread64" SYS_pread64,
    "prlimit64" SYS_prlimit64,
    "pselect6" SYS_pselect6,
    "pwrite64" SYS_pwrite64,
    "read" SYS_read,
    "readlink" SYS_readlink,
    "readlinkat" SYS_readlinkat,
    "readv" SYS_readv,
    "recvfrom" SYS_recvfrom,
    "recvmmsg" SYS_recvmmsg,
    "recvmsg" SYS_recvmsg,
    "rename" SYS_rename,
    "renameat" SYS_renameat,
    "renameat2" SYS_renameat2,
    "restart_syscall" SYS_restart_syscall,
    "rseq" SYS_rseq,
    "rt_sigaction" SYS_rt_sigaction,
    "rt_sigprocmask" SYS_rt_sigprocmask,
    "rt_sigreturn" SYS_rt_sigreturn,
    "sched_getaffinity" SYS_sched_getaffinity,
    "sched_getparam" SYS_sched_getparam,
    "sched_setaffinity" SYS_sched_setaffinity,
    "sched_yield" SYS_sched_yield,
    "sendmmsg" SYS_sendmmsg,
    "sendmsg" SYS_sendmsg,
    "sendto" SYS_sendto,
    "set_robust_list" SYS_set_robust_list,
    "set_tid_address" SYS_set_tid_address,
    "setsockopt" SYS_setsockopt,
    "shutdown" SYS_shutdown,
    "sigaltstack" SYS_sigaltstack,
    "signalfd4" SYS_signalfd4,
    "socket" SYS_socket,
    "socketpair" SYS_socketpair,
    "statfs" SYS_statfs,
    "statx" SYS_statx,
    "sync" SYS_sync,
    "sync_file_range" SYS_sync_file_range,
    "syncfs" SYS_syncfs,
    "sysinfo" SYS_sysinfo,
    "tgkill" SYS_tgkill,
    "time" SYS_time,
    "timer_create" SYS_timer_create,
    "timerfd_create" SYS_timerfd_create,
    "timerfd_settime" SYS_timerfd_settime,
    "umask" SYS_umask,
    "uname" SYS_uname,
    "unlink" SYS_unlink,
    "unlinkat" SYS_unlinkat,
    "vfork" SYS_vfork,
    "wait4" SYS_wait4,
    "waitid" SYS_waitid,
    "write" SYS_write,
    "writev" SYS_writev,
}
