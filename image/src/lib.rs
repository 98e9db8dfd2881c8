// SPDX-License-Identifier: Apache-2.0
//! Builds the operating system: Debian packages and our own programs in, one signed-as-a-whole file out.
//!
//! * [`lock`], [`sources`], [`apt`], [`resolve`]: which packages, and how their bytes get here.
//! * [`deb`], [`tree`]: what is in them.
//! * [`programs`]: what is ours.
//! * [`modules`], [`kernel`]: the kernel, and which of its modules.
//! * [`root`], [`elf`], [`policy`]: the read-only root, and what may not be in it.
//! * [`squashfs`], [`initramfs`], [`cmdline`], [`uki`], [`fat`], [`disk`]: the envelopes, from the inside out.
//! * [`keys`], [`push`]: who made it, and where others find it.
//! * [`recipe`], [`manifest`]: the whole way, and what came of it.
//! * [`workspace`], [`cache`], [`progress`], [`firmware`]: what it needs on the way.
//!
//! Needs no privilege, reads no clock and leaves no trace of the machine in what it makes: the same inputs give the same
//! bytes in any folder. It is never linked into the operating system.

#![forbid(unsafe_code)]

pub mod apt;
pub mod cache;
pub mod cmdline;
pub mod deb;
pub mod disk;
pub mod elf;
pub mod fat;
pub mod firmware;
pub mod initramfs;
pub mod kernel;
pub mod keys;
pub mod lock;
pub mod manifest;
pub mod modules;
pub mod policy;
pub mod programs;
pub mod progress;
pub mod push;
pub mod recipe;
pub mod resolve;
pub mod root;
pub mod sources;
pub mod squashfs;
pub mod tree;
pub mod uki;
pub mod workspace;
