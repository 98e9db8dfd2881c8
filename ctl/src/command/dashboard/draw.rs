// SPDX-License-Identifier: Apache-2.0
//! Draws the screen: nodes and views above, the page, and what went wrong and which keys there are below.

use super::{
    page::{Page, Part, Tone},
    screen::{Screen, View},
};
use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    text::{Line, Span},
    widgets::Paragraph,
};

/// Draws it.
pub(super) fn draw(frame: &mut Frame<'_>, screen: &Screen) {
    let bounds = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Min(1),
        Constraint::Length(1),
    ]);
    let [nodes, views, body, foot] = bounds.areas(frame.area());
    let wanted = screen.wanted();
    frame.render_widget(Paragraph::new(chosen(&screen.nodes, wanted.node)), nodes);
    let names: Vec<String> =
        (1..).zip(View::ALL).map(|(digit, view)| format!("{digit} {}", view.name())).collect();
    let view = View::ALL.iter().position(|view| *view == wanted.view).unwrap_or(0);
    frame.render_widget(Paragraph::new(chosen(&names, view)), views);
    match &screen.page {
        Some(page) if page.choices.is_empty() => draw_page(frame, screen, page, body),
        Some(page) => {
            let width = page.choices.iter().map(|name| name.chars().count()).max().unwrap_or(0);
            let width = u16::try_from(width + 2).unwrap_or(u16::MAX).min(body.width / 3);
            let bounds = Layout::horizontal([Constraint::Length(width), Constraint::Min(1)]);
            let [left, right] = bounds.areas(body);
            draw_choices(frame, &page.choices, wanted.choice, left);
            draw_page(frame, screen, page, right);
        }
        None => frame.render_widget(Paragraph::new("…"), body),
    }
    let line = match &screen.problem {
        Some(problem) => {
            let text = problem.replace('\n', " ");
            Line::styled(text, style(Tone::Bad, screen.colours))
        }
        None => Line::raw("1-5 Tab view   ← → node   ↑ ↓ PgUp PgDn choose, scroll   q end"),
    };
    frame.render_widget(Paragraph::new(line), foot);
}

fn chosen(names: &[String], index: usize) -> Line<'_> {
    let one = |(at, name): (usize, &String)| {
        let style =
            if at == index { Style::new().add_modifier(Modifier::REVERSED) } else { Style::new() };
        [Span::styled(format!(" {name} "), style), Span::raw(" ")]
    };
    Line::from(names.iter().enumerate().flat_map(one).collect::<Vec<_>>())
}

fn draw_choices(frame: &mut Frame<'_>, choices: &[String], choice: usize, area: Rect) {
    let lines: Vec<Line<'_>> = (0..)
        .zip(choices)
        .map(|(at, name)| match at == choice {
            true => Line::styled(name.as_str(), Style::new().add_modifier(Modifier::REVERSED)),
            false => Line::raw(name.as_str()),
        })
        .collect();
    // The chosen one stays in sight.
    let below = (choice + 1).saturating_sub(usize::from(area.height));
    let offset = u16::try_from(below).unwrap_or(u16::MAX);
    frame.render_widget(Paragraph::new(lines).scroll((offset, 0)), area);
}

fn draw_page(frame: &mut Frame<'_>, screen: &Screen, page: &Page, area: Rect) {
    let lines: Vec<Line<'_>> =
        page.parts.iter().flat_map(|part| lines(part, screen.colours)).collect();
    let hidden = u16::try_from(lines.len()).unwrap_or(u16::MAX).saturating_sub(area.height);
    let scrolled = screen.scrolled.min(hidden);
    let offset = if page.at_end { hidden - scrolled } else { scrolled };
    frame.render_widget(Paragraph::new(lines).scroll((offset, 0)), area);
}

/// A part as lines: its title, its headings and rows in columns, and an empty line.
fn lines(part: &Part, colours: bool) -> Vec<Line<'_>> {
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let mut lines = vec![Line::styled(part.title.as_str(), bold)];
    let widths: Vec<usize> = (0..part.header.len())
        .map(|column| {
            let cells = part.rows.iter().map(|(_, cells)| cells).chain([&part.header]);
            cells
                .filter_map(|row| row.get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
        })
        .collect();
    let text = |cells: &[String]| match widths.is_empty() {
        true => cells.concat(),
        false => {
            let padded = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}  "));
            padded.collect::<String>().trim_end().to_owned()
        }
    };
    if !part.header.is_empty() {
        lines.push(Line::styled(text(&part.header), bold));
    }
    lines.extend(
        part.rows.iter().map(|(tone, cells)| Line::styled(text(cells), style(*tone, colours))),
    );
    lines.push(Line::default());
    lines
}

fn style(tone: Tone, colours: bool) -> Style {
    match tone {
        Tone::Plain => Style::new(),
        Tone::Odd if colours => Style::new().fg(Color::Yellow),
        Tone::Bad if colours => Style::new().fg(Color::Red),
        Tone::Odd | Tone::Bad => Style::new().add_modifier(Modifier::BOLD),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::dashboard::screen::Wanted;
    use expect_test::{Expect, expect};
    use ratatui::{Terminal, backend::TestBackend};

    fn check(screen: &Screen, expect: Expect) {
        let mut terminal = Terminal::new(TestBackend::new(46, 9)).unwrap();
        terminal.draw(|frame| draw(frame, screen)).unwrap();
        let buffer = terminal.backend().buffer();
        let rows: Vec<String> = buffer
            .content()
            .chunks(46)
            .map(|row| {
                row.iter().map(|cell| cell.symbol()).collect::<String>().trim_end().to_owned()
                    + "\n"
            })
            .collect();
        expect.assert_eq(&rows.concat());
    }

    fn part() -> Part {
        let row = |tone, cells: [&str; 3]| (tone, cells.map(str::to_owned).to_vec());
        Part {
            title: "Service".to_owned(),
            header: ["NAME", "STATE", "REASON"].map(str::to_owned).to_vec(),
            rows: vec![
                row(Tone::Plain, ["apid", "running", ""]),
                row(Tone::Bad, ["dhcp-eth0", "failed", "exit 1"]),
            ],
        }
    }

    #[test]
    fn a_table_fills_the_page() {
        let mut screen = Screen::new(vec!["web1".to_owned(), "web2".to_owned()], false);
        check(
            &screen,
            expect![[r#"
             web1   web2
             1 Health   2 Services   3 Network   4 Resourc
            …





            1-5 Tab view   ← → node   ↑ ↓ PgUp PgDn choose
        "#]],
        );
        let page = Page { parts: vec![part()], ..Page::default() };
        screen.see(&screen.wanted(), Ok(page));
        check(
            &screen,
            expect![[r#"
             web1   web2
             1 Health   2 Services   3 Network   4 Resourc
            Service
            NAME       STATE    REASON
            apid       running
            dhcp-eth0  failed   exit 1


            1-5 Tab view   ← → node   ↑ ↓ PgUp PgDn choose
        "#]],
        );
        screen.see(&screen.wanted(), Err("Connecting to web1: refused".to_owned()));
        check(
            &screen,
            expect![[r#"
             web1   web2
             1 Health   2 Services   3 Network   4 Resourc
            Service
            NAME       STATE    REASON
            apid       running
            dhcp-eth0  failed   exit 1


            Connecting to web1: refused
        "#]],
        );
    }

    #[test]
    fn what_can_be_chosen_stands_beside_and_the_end_of_a_log_is_seen() {
        let mut screen = Screen::new(vec!["web1".to_owned()], false);
        let lines = (1..20).map(|number| (Tone::Plain, format!("line {number}")));
        let page = Page {
            choices: vec!["apid".to_owned(), "kernel".to_owned()],
            parts: vec![Part::lines("apid", lines)],
            at_end: true,
        };
        let wanted: Wanted = screen.wanted();
        screen.see(&wanted, Ok(page));
        check(
            &screen,
            expect![[r#"
             web1
             1 Health   2 Services   3 Network   4 Resourc
            apid    line 15
            kernel  line 16
                    line 17
                    line 18
                    line 19

            1-5 Tab view   ← → node   ↑ ↓ PgUp PgDn choose
        "#]],
        );
    }
}
