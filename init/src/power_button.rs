// SPDX-License-Identifier: Apache-2.0
//! The power button, as an input device; see the kernel's Documentation/input/input.rst. The kernel's ACPI button
//! driver makes one, and a press is an orderly power-off.

use crate::{boots::Reason, node::Node, readiness, report};
use std::{
    fs::{self, OpenOptions},
    io::{self, Read as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    rc::Rc,
};
use stele_kernel::power::End;

/// O_NONBLOCK.
const NONBLOCK: i32 = 0o4000;
/// The size of `struct input_event` on a 64-bit machine; its type, code and value are its last eight bytes.
const EVENT: usize = 24;
const EV_KEY: u16 = 1;
const KEY_POWER: u16 = 116;

/// Listens to every power button that there is once the devices have settled.
pub(crate) async fn listen(node: Rc<Node>) {
    if let Some(devices) = node.devices.get() {
        devices.settled().await;
    }
    node.load_module("evdev").await;
    for device in buttons() {
        let node = Rc::clone(&node);
        tokio::task::spawn_local(async move {
            if let Err(error) = wait(&device).await {
                tracing::warn!(device = %device.display(), error = %error, "listening to a power button failed");
                return;
            }
            tracing::info!(target: report::CONSOLE, "power button pressed");
            node.end(End::PowerOff, Reason::asked("the power button was pressed"));
        });
    }
}

fn buttons() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/sys/class/input").into_iter().flatten().flatten() {
        let name = fs::read_to_string(entry.path().join("device/name")).unwrap_or_default();
        if name.trim() == "Power Button" {
            found.push(Path::new("/dev/input").join(entry.file_name()));
        }
    }
    found
}

/// Returns when the button is pressed.
async fn wait(device: &Path) -> io::Result<()> {
    let file = OpenOptions::new().read(true).custom_flags(NONBLOCK).open(device)?;
    let mut events = readiness::watch(file)?;
    loop {
        let mut ready = events.readable_mut().await?;
        let mut event = [0; EVENT];
        match ready.get_inner_mut().read(&mut event) {
            Ok(EVENT) if is_press(&event) => return Ok(()),
            Ok(EVENT) => {}
            Ok(_) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
            Err(error) => return Err(error),
        }
    }
}

fn is_press(event: &[u8; EVENT]) -> bool {
    let [.., type0, type1, code0, code1, value0, value1, value2, value3] = *event;
    u16::from_ne_bytes([type0, type1]) == EV_KEY
        && u16::from_ne_bytes([code0, code1]) == KEY_POWER
        && i32::from_ne_bytes([value0, value1, value2, value3]) == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_press_of_the_power_key_counts() {
        let event = |kind: u16, code: u16, value: i32| {
            let mut event = [0; EVENT];
            event[16..18].copy_from_slice(&kind.to_ne_bytes());
            event[18..20].copy_from_slice(&code.to_ne_bytes());
            event[20..].copy_from_slice(&value.to_ne_bytes());
            event
        };
        assert!(is_press(&event(1, 116, 1)));
        assert!(!is_press(&event(1, 116, 0)));
        assert!(!is_press(&event(1, 30, 1)));
    }
}
