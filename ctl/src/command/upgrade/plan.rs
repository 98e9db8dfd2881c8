// SPDX-License-Identifier: Apache-2.0
//! What `ctl upgrade` was asked for: which image, from where, and when to move to it.

use super::{WaitArgs, push::Image};
use crate::{app::Misuse, span};
use anyhow::Result;
use std::path::PathBuf;
use stele_proto::v1::upgrade_request::{Source, When};
use time::OffsetDateTime;

/// Arguments of `ctl upgrade`.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("source").required(true).multiple(false))]
#[command(group = clap::ArgGroup::new("when").multiple(false))]
pub(crate) struct Args {
    /// A UKI to upload, with its signature in FILE.sig beside it
    #[arg(long, value_name = "FILE", group = "source")]
    image: Option<PathBuf>,
    /// A UKI that the node fetches by itself, with its signature at URL.sig
    #[arg(long, value_name = "URL", group = "source")]
    url: Option<String>,
    /// A signed artifact in a registry, HOST/NAME:TAG or HOST/NAME@DIGEST, that the node fetches by itself
    #[arg(long, value_name = "REF", group = "source")]
    registry: Option<String>,
    /// An image that is on the node already, staged
    #[arg(long, value_name = "SLOT", group = "source")]
    slot: Option<String>,
    /// Forget the upgrade that waits for its time or for the next reboot; its image stays staged
    #[arg(long, group = "source", conflicts_with_all = ["when", "limit_rate"])]
    pub(super) cancel: bool,
    /// Put the image on the node and leave it at that
    #[arg(long, conflicts_with = "slot", group = "when")]
    stage_only: bool,
    /// Move to it at this time: 2026-01-31T12:00:00Z, or +8h from now
    #[arg(long, value_name = "TIME", group = "when")]
    at: Option<String>,
    /// Move to it with the next reboot, whoever asks for that
    #[arg(long, group = "when")]
    no_reboot: bool,
    /// Bytes per second that the image may take of the network, such as 500k or 2M
    #[arg(long, value_name = "BYTES", value_parser = span::parse_bytes, conflicts_with = "slot")]
    limit_rate: Option<u64>,
    #[command(flatten)]
    pub(super) wait: WaitArgs,
}

/// Where the new image comes from.
#[derive(Clone, Debug)]
pub(super) enum From {
    Image(Image),
    /// The node gets it by itself, or has it.
    Node(Source),
}

/// What to do, understood.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) from: From,
    pub(super) when: Option<When>,
    /// Bytes per second; 0 for as many as there are.
    pub(super) rate: u64,
}

impl Plan {
    /// Understands the arguments, and reads the image.
    pub(super) fn of(args: &Args) -> Result<Plan> {
        let from = match (&args.image, &args.url, &args.registry, &args.slot) {
            (Some(path), ..) => From::Image(Image::read(path)?),
            (_, Some(url), ..) => From::Node(Source::Url(url.clone())),
            (_, _, Some(name), _) => From::Node(Source::Registry(name.clone())),
            (_, _, _, Some(slot)) => From::Node(Source::Slot(slot.clone())),
            (None, None, None, None) => {
                let what = "Say what to upgrade to: --image, --url, --registry or --slot";
                return Err(Misuse(what.to_owned()).into());
            }
        };
        let when = match &args.at {
            Some(text) => {
                let at = span::parse_until(text, OffsetDateTime::now_utc())
                    .map_err(|error| Misuse(format!("--at: {error}")))?;
                let nanos = i32::try_from(at.nanosecond()).unwrap_or(0);
                Some(When::At(prost_types::Timestamp { seconds: at.unix_timestamp(), nanos }))
            }
            None if args.stage_only => Some(When::StageOnly(true)),
            None if args.no_reboot => Some(When::AtReboot(true)),
            None => None,
        };
        Ok(Plan { from, when, rate: args.limit_rate.unwrap_or(0) })
    }

    /// What there is to say when the node does not move to the image now.
    pub(super) fn later(&self, slot: &str) -> Option<String> {
        match self.when.as_ref()? {
            When::StageOnly(_) => {
                Some(format!("{slot} is staged. ctl upgrade --slot {slot} moves to it"))
            }
            When::AtReboot(_) => Some(format!("the next reboot moves to {slot}")),
            When::At(at) => Some(format!("moves to {slot} at {}", span::format_timestamp(at))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn plan(words: &[&str]) -> Result<Plan, String> {
        let line = Line::try_parse_from(["upgrade"].iter().chain(words));
        let line = line.map_err(|error| error.to_string())?;
        Plan::of(&line.args).map_err(|error| error.to_string())
    }

    #[test]
    fn when_to_move() {
        let slot = ["--slot", "stele_2.efi"];
        let when = |more: &[&str]| plan(&[&slot, more].concat()).map(|plan| plan.when);
        assert_eq!(when(&[]).unwrap(), None);
        assert_eq!(when(&["--no-reboot"]).unwrap(), Some(When::AtReboot(true)));
        assert!(matches!(when(&["--at", "+1h"]).unwrap(), Some(When::At(_))));
        assert!(when(&["--at", "+1h", "--no-reboot"]).is_err());
        assert!(when(&["--stage-only"]).is_err());
        assert!(when(&["--at", "1999-01-01T00:00:00Z"]).unwrap_err().contains("is over already"));
    }

    #[test]
    fn what_is_said_of_later() {
        let plan = |words: &[&str]| plan(words).unwrap().later("stele_2.efi");
        let url = ["--url", "http://host/stele.efi"];
        assert_eq!(plan(&url), None);
        assert_eq!(
            plan(&[&url[..], &["--stage-only", "--limit-rate", "1M"]].concat()).unwrap(),
            "stele_2.efi is staged. ctl upgrade --slot stele_2.efi moves to it"
        );
        assert_eq!(
            plan(&[&url[..], &["--at", "2999-01-31T12:00:00Z"]].concat()).unwrap(),
            "moves to stele_2.efi at 2999-01-31T12:00:00Z"
        );
    }

    #[test]
    fn one_source() {
        assert!(plan(&[]).is_err());
        assert!(plan(&["--url", "http://a/b", "--slot", "c"]).is_err());
        assert!(plan(&["--cancel", "--no-reboot"]).is_err());
        let from = plan(&["--registry", "host/os:1"]).unwrap().from;
        assert!(matches!(from, From::Node(Source::Registry(_))));
    }
}
