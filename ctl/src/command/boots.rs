// SPDX-License-Identifier: Apache-2.0
//! `ctl boots`: how a node started, what its health gate found, and how each boot ended.

use crate::{
    app::{Answer, App, FormatArg, Outcome, Reach},
    client::Session,
    output::{self, Format, Paint, Table, plain},
    resources::{self, Thing, moment},
};
use anyhow::{Result, bail};
use serde_json::{Value, json};
use std::fmt::Write as _;

/// Arguments of `ctl boots`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only this boot, with all that is known of it: its number, 0 for the running one, -1 for the one before
    #[arg(allow_negative_numbers = true)]
    boot: Option<i64>,
    #[command(flatten)]
    format: FormatArg,
}

/// The boots of a node, newest first.
pub(crate) async fn ask(session: &Session) -> Result<Vec<Thing>, crate::failure::Failure> {
    let mut boots = resources::list(session, "Boot").await?;
    boots.sort_by_key(|boot| std::cmp::Reverse(boot.count()));
    Ok(boots)
}

/// Shows boots.
pub(crate) async fn run(app: &App, args: &Args) -> Result<Outcome> {
    let format = args.format.output;
    let targets = app.targets(Reach::Look)?;
    let many = targets.are_many();
    let wanted = args.boot;
    let answers = targets
        .each(move |session| async move {
            let boots = ask(&session).await?;
            match wanted {
                None => Ok(boots),
                Some(number) => Ok(vec![pick(boots, number)?]),
            }
        })
        .await;
    if format != Format::Table {
        let answers = answers.into_iter().map(|Answer { node, result }| {
            let result = result.map(|boots| {
                let mut values: Vec<Value> = boots.iter().map(value).collect();
                if wanted.is_some() && values.len() == 1 { values.remove(0) } else { values.into() }
            });
            Answer { node, result }
        });
        return app.print_values(format, answers.collect());
    }
    let (good, outcome) = app.sort(answers);
    if wanted.is_some() {
        for (node, boots) in &good {
            let heading = if many { format!("{}: ", node.name()) } else { String::new() };
            for boot in boots {
                output::print(&format!("{heading}{}", details(boot, app.paint)))?;
            }
        }
        return Ok(outcome);
    }
    let mut table = Table::new(many.then_some("NODE").into_iter().chain([
        "BOOT",
        "IMAGE",
        "GENERATION",
        "WHEN",
        "STARTED",
        "HEALTH",
        "ENDED",
        "CAUSE",
    ]));
    for (node, boots) in &good {
        for boot in boots {
            table.row(many.then(|| node.name()).into_iter().chain([
                boot.name.clone(),
                boot.text("image").to_owned(),
                output::cell(&boot.status, "generation"),
                when(boot),
                boot.text("started").to_owned(),
                health(boot).to_owned(),
                boot.text("ended").to_owned(),
                boot.text("cause").to_owned(),
            ]));
        }
    }
    if !good.is_empty() {
        output::print(&table.render(app.paint))?;
    }
    Ok(outcome)
}

/// The boot of this number, or that many before the newest.
fn pick(boots: Vec<Thing>, number: i64) -> Result<Thing> {
    let newest = boots.first().map_or(0, Thing::count);
    let oldest = boots.last().map_or(0, Thing::count);
    let wanted = match u64::try_from(number) {
        Ok(0) => Some(newest),
        Ok(number) => Some(number),
        Err(_) => newest.checked_sub(number.unsigned_abs()),
    };
    match boots.into_iter().find(|boot| Some(boot.count()) == wanted) {
        Some(boot) => Ok(boot),
        None => bail!(
            "The node knows no boot {number}. It knows those from {oldest} to {newest}: ctl boots"
        ),
    }
}

fn when(boot: &Thing) -> String {
    #[expect(clippy::cast_possible_truncation, reason = "seconds since the epoch are whole")]
    let start = boot.number("time").unwrap_or(0.0) as i64;
    if start > 0 { moment(start, 0.0) } else { String::new() }
}

/// A boot that had nothing to prove has no health of its own to show.
fn health(boot: &Thing) -> &str {
    match boot.text("health") {
        "none" => "",
        "pending" if !boot.text("ended").is_empty() => "not proved",
        other => other,
    }
}

fn value(boot: &Thing) -> Value {
    boot.value("boot", json!(boot.count()))
}

/// Which command shows what is left of a boot.
pub(crate) fn evidence(boot: &Thing) -> Option<String> {
    let log = match boot.text("ended") {
        "panic" => "panic",
        // Nothing of it reached the disk.
        "without a word" if boot.number("generation").is_none() => return None,
        _ => "kernel",
    };
    Some(format!("ctl logs {log} --boot {}", boot.name))
}

fn details(boot: &Thing, paint: Paint) -> String {
    let mut text = format!("{}\n", paint.bold(&format!("Boot {}", boot.name)));
    let generation = output::cell(&boot.status, "generation");
    for (label, value) in [
        ("image", boot.text("image")),
        ("generation", generation.as_str()),
        ("when", when(boot).as_str()),
        ("started", boot.text("started")),
        ("health", health(boot)),
        ("ended", boot.text("ended")),
        ("cause", boot.text("cause")),
    ] {
        if !value.is_empty() {
            let _ = writeln!(text, "  {label:<12}{}", plain(value));
        }
    }
    let checks = boot.status.get("checks").and_then(Value::as_array);
    if let Some(checks) = checks.filter(|checks| !checks.is_empty()) {
        let mut table = Table::new(["CHECK", "STATE", "NEED", "PASSED", "REASON"]);
        for check in checks {
            let cell = |field| output::cell(check, field);
            let passed = check.get("passed").and_then(Value::as_f64);
            table.row([
                cell("name"),
                cell("state"),
                cell("need"),
                passed.map(|passed| format!("after {passed:.1} s")).unwrap_or_default(),
                cell("reason"),
            ]);
        }
        let _ = write!(text, "\n{}", table.render(paint));
    }
    let failed = !matches!(boot.text("health"), "passed" | "none")
        || !matches!(boot.text("ended"), "" | "reboot" | "power off");
    if let Some(command) = evidence(boot).filter(|_| failed && !boot.text("ended").is_empty()) {
        let _ = write!(text, "\nWhat it left behind: {command}\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    fn boot(number: u64, status: Value) -> Thing {
        Thing { name: number.to_string(), status }
    }

    #[test]
    fn a_boot_is_found_by_its_number_or_from_the_newest() {
        let boots = || vec![boot(9, json!({})), boot(8, json!({})), boot(7, json!({}))];
        for (wanted, found) in [(0, "9"), (-1, "8"), (-2, "7"), (9, "9"), (7, "7")] {
            assert_eq!(pick(boots(), wanted).unwrap().name, found);
        }
        for wanted in [1, 10, -3, -100, i64::MIN] {
            assert!(pick(boots(), wanted).unwrap_err().to_string().contains("from 7 to 9"));
        }
        assert!(pick(Vec::new(), 0).is_err());
    }

    #[test]
    fn all_that_is_known() {
        let failed = boot(
            12,
            json!({"image": "1.1.0", "generation": 3, "time": 1_800_000_000, "started": "try 1", "health": "failed",
            "ended": "reboot", "cause": "web: GET http://[::1]/: the answer is 503, not 200", "checks": [
                {"name": "system/api", "need": "required", "state": "passing", "passed": 4.25},
                {"name": "web", "need": "required", "state": "failing", "reason": "GET http://[::1]/: the answer is 503, not 200"},
            ]}),
        );
        expect![[r#"
            Boot 12
              image       1.1.0
              generation  3
              when        2027-01-15T08:00:00Z
              started     try 1
              health      failed
              ended       reboot
              cause       web: GET http://[::1]/: the answer is 503, not 200

            CHECK       STATE    NEED      PASSED       REASON
            system/api  passing  required  after 4.2 s  -
            web         failing  required  -            GET http://[::1]/: the answer is 503, not 200

            What it left behind: ctl logs kernel --boot 12
        "#]].assert_eq(&details(&failed, Paint::new(false)));
        let lost = boot(
            13,
            json!({"image": "1.1.0", "time": 0, "started": "try 2", "health": "pending", "ended": "panic", "cause": "kernel panic: no init"}),
        );
        expect![[r#"
            Boot 13
              image       1.1.0
              started     try 2
              health      not proved
              ended       panic
              cause       kernel panic: no init

            What it left behind: ctl logs panic --boot 13
        "#]]
        .assert_eq(&details(&lost, Paint::new(false)));
        let running = boot(
            14,
            json!({"image": "1.0.0", "generation": 2, "time": 1_800_000_000, "started": "ordinary", "health": "none"}),
        );
        expect![[r#"
            Boot 14
              image       1.0.0
              generation  2
              when        2027-01-15T08:00:00Z
              started     ordinary
        "#]]
        .assert_eq(&details(&running, Paint::new(false)));
    }
}
