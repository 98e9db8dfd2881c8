// SPDX-License-Identifier: Apache-2.0
//! The kernel command line: each word with the reason for it.

/// The words, in order.
const WORDS: &[(&str, &str)] = &[
    ("console=tty0", "the screen"),
    ("console=ttyS0,115200", "the serial line; the last one named is /dev/console"),
    ("quiet", "a healthy boot is a dozen lines of ours"),
    ("loglevel=4", "and the kernel's warnings"),
    (
        "printk.devkmsg=on",
        "PID 1 logs through /dev/kmsg; the default limits it to ten lines in five seconds",
    ),
    ("consoleblank=0", "the address on the screen stays on the screen"),
    (
        "panic=5",
        "a panicked kernel starts again, after time enough to read the screen; the default waits for ever",
    ),
    (
        "oops=panic",
        "a kernel that has run into a bug is not to be trusted with the machine; boot counting takes it from there",
    ),
    (
        "lockdown=integrity",
        "not even root changes the running kernel: signed modules only, no /dev/mem, no unsigned kexec",
    ),
    ("init_on_alloc=1", "no memory reaches its next owner with the last one's bytes in it"),
    ("slab_nomerge", "an overflow in one kind of object stays among its kind"),
    ("page_alloc.shuffle=1", "pages come in no order that an attacker could count on"),
    ("randomize_kstack_offset=on", "nor do kernel stacks"),
    ("vsyscall=none", "no code at a fixed address"),
    ("proc_mem.force_override=never", "/proc/PID/mem does not write to read-only pages"),
    ("cryptomgr.notests", "the kernel's ciphers were tested when it was built; 0.2 s of each boot"),
];

/// The command line of an image.
#[must_use]
pub fn image() -> String {
    WORDS.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_fits_and_no_word_is_there_twice() {
        assert!(image().len() < 1024);
        let mut words: Vec<&str> = WORDS.iter().map(|(word, _)| *word).collect();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), WORDS.len());
        assert!(image().split_whitespace().count() == WORDS.len());
    }
}
