// SPDX-License-Identifier: Apache-2.0
//! Figures as text: OpenMetrics 1.0, and the older text format of Prometheus for those who do not ask for it.
//!
//! The two differ in what a counter and an info are called in their headers, in the unit, and in the end.

use std::fmt::{Display, Write as _};

/// Most samples of one page: a machine with ten thousand links does not bury whoever asks.
const MOST: usize = 8000;

/// What the text is read by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// Version 0.0.4 of Prometheus' text format.
    Text,
}

/// What the figures of a family do over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// They go up and down.
    Gauge,
    /// They go up, and back to 0 when the machine starts again.
    Counter,
    /// They are always 1; what is told is in the labels.
    Info,
}

/// The text while it grows.
#[derive(Debug)]
pub struct Page {
    format: Format,
    text: String,
    left: usize,
}

/// Figures of one name.
#[derive(Debug)]
pub struct Family<'a> {
    page: &'a mut Page,
    name: &'static str,
    kind: Type,
    help: &'static str,
    begun: bool,
}

impl Page {
    /// An empty page.
    #[must_use]
    pub fn new(format: Format) -> Page {
        Page { format, text: String::new(), left: MOST }
    }

    /// A family of figures. Its name has the unit at its end, and no `_total` or `_info`. Without a figure it leaves no trace.
    pub fn family(&mut self, name: &'static str, kind: Type, help: &'static str) -> Family<'_> {
        Family { page: self, name, kind, help, begun: false }
    }

    /// The text.
    #[must_use]
    pub fn finish(mut self) -> String {
        if self.format == Format::OpenMetrics {
            self.text.push_str("# EOF\n");
        }
        self.text
    }
}

impl Family<'_> {
    /// Adds a figure.
    pub fn add(&mut self, labels: &[(&str, &str)], value: impl Display) {
        let Some(left) = self.page.left.checked_sub(1) else { return };
        self.page.left = left;
        if !self.begun {
            self.begin();
        }
        let (suffix, text) = (self.suffix(), &mut self.page.text);
        text.push_str(self.name);
        text.push_str(suffix);
        for (number, (label, value)) in labels.iter().enumerate() {
            text.push_str(if number == 0 { "{" } else { "," });
            text.push_str(label);
            text.push_str("=\"");
            escape(text, value);
            text.push('"');
        }
        if !labels.is_empty() {
            text.push('}');
        }
        // Writing to memory cannot fail.
        let _written = writeln!(text, " {value}");
    }

    fn begin(&mut self) {
        self.begun = true;
        let kind = match (self.page.format, self.kind) {
            (_, Type::Gauge) => "gauge",
            (_, Type::Counter) => "counter",
            (Format::OpenMetrics, Type::Info) => "info",
            // Version 0.0.4 knows no info.
            (Format::Text, Type::Info) => "gauge",
        };
        let suffix = match self.page.format {
            Format::OpenMetrics => "",
            Format::Text => self.suffix(),
        };
        let (name, help, text) = (self.name, self.help, &mut self.page.text);
        let _written = writeln!(text, "# TYPE {name}{suffix} {kind}");
        let unit = name.rsplit('_').next().filter(|unit| matches!(*unit, "bytes" | "seconds"));
        if let Some(unit) = unit.filter(|_| self.page.format == Format::OpenMetrics) {
            let _written = writeln!(text, "# UNIT {name} {unit}");
        }
        let _written = writeln!(text, "# HELP {name}{suffix} {help}");
    }

    fn suffix(&self) -> &'static str {
        match self.kind {
            Type::Gauge => "",
            Type::Counter => "_total",
            Type::Info => "_info",
        }
    }
}

/// A label's value, which may hold words of strangers.
fn escape(text: &mut String, value: &str) {
    for char in value.chars() {
        match char {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            other => text.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    fn page(format: Format) -> String {
        let mut page = Page::new(format);
        page.family("stele_image", Type::Info, "The image.").add(&[("version", "1.2.0")], 1);
        let mut links = page.family("stele_link_received_bytes", Type::Counter, "Bytes received.");
        links.add(&[("link", "eth0")], 18_446_744_073_709_551_615_u64);
        links.add(&[("link", "a\"b\\c\nd")], 0);
        page.family("stele_load", Type::Gauge, "Load.").add(&[("minutes", "1")], 0.25);
        page.family("stele_nothing", Type::Gauge, "Nothing.");
        page.finish()
    }

    #[test]
    fn open_metrics() {
        expect![[r##"
            # TYPE stele_image info
            # HELP stele_image The image.
            stele_image_info{version="1.2.0"} 1
            # TYPE stele_link_received_bytes counter
            # UNIT stele_link_received_bytes bytes
            # HELP stele_link_received_bytes Bytes received.
            stele_link_received_bytes_total{link="eth0"} 18446744073709551615
            stele_link_received_bytes_total{link="a\"b\\c\nd"} 0
            # TYPE stele_load gauge
            # HELP stele_load Load.
            stele_load{minutes="1"} 0.25
            # EOF
        "##]]
        .assert_eq(&page(Format::OpenMetrics));
    }

    #[test]
    fn text() {
        expect![[r##"
            # TYPE stele_image_info gauge
            # HELP stele_image_info The image.
            stele_image_info{version="1.2.0"} 1
            # TYPE stele_link_received_bytes_total counter
            # HELP stele_link_received_bytes_total Bytes received.
            stele_link_received_bytes_total{link="eth0"} 18446744073709551615
            stele_link_received_bytes_total{link="a\"b\\c\nd"} 0
            # TYPE stele_load gauge
            # HELP stele_load Load.
            stele_load{minutes="1"} 0.25
        "##]]
        .assert_eq(&page(Format::Text));
    }

    #[test]
    fn a_page_has_an_end() {
        let mut page = Page::new(Format::OpenMetrics);
        let mut family = page.family("stele_x", Type::Gauge, "Many.");
        (0..2 * MOST).for_each(|number| family.add(&[("number", &number.to_string())], 1));
        let text = page.finish();
        assert_eq!(text.lines().count(), MOST + 3);
        assert!(text.ends_with("# EOF\n"));
    }
}
