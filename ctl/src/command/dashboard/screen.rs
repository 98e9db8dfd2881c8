// SPDX-License-Identifier: Apache-2.0
//! What is on the screen, and what keys make of it.

use super::page::Page;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

/// The views.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum View {
    /// How the node is.
    Health,
    /// What runs.
    Services,
    /// How it is reached.
    Network,
    /// All there is, a kind at a time.
    Resources,
    /// What was written, a log at a time.
    Logs,
}

impl View {
    /// All views in order.
    pub(super) const ALL: [View; 5] =
        [View::Health, View::Services, View::Network, View::Resources, View::Logs];

    /// What it is called.
    pub(super) fn name(self) -> &'static str {
        match self {
            View::Health => "Health",
            View::Services => "Services",
            View::Network => "Network",
            View::Resources => "Resources",
            View::Logs => "Logs",
        }
    }
}

/// What is to be fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Of which node.
    pub(super) node: usize,
    /// For which view.
    pub(super) view: View,
    /// Which of what can be chosen in it.
    pub(super) choice: usize,
}

/// What comes after a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// It goes on.
    Stay,
    /// The user has seen enough.
    End,
}

/// What is on the screen.
#[derive(Debug)]
pub(super) struct Screen {
    /// The names of the nodes.
    pub(super) nodes: Vec<String>,
    /// With colours.
    pub(super) colours: bool,
    /// What was chosen.
    wanted: Wanted,
    /// The page of it; none until it is there.
    pub(super) page: Option<Page>,
    /// Why there is no newer one.
    pub(super) problem: Option<String>,
    /// Lines that the user has scrolled, away from where the page begins or ends.
    pub(super) scrolled: u16,
}

/// Lines of a page up or down.
const LEAP: u16 = 10;

impl Screen {
    /// The first view of the first node.
    pub(super) fn new(nodes: Vec<String>, colours: bool) -> Screen {
        let wanted = Wanted { node: 0, view: View::Health, choice: 0 };
        Screen { nodes, colours, wanted, page: None, problem: None, scrolled: 0 }
    }

    /// What is to be fetched.
    pub(super) fn wanted(&self) -> Wanted {
        self.wanted.clone()
    }

    /// Takes what was fetched, if it is still wanted.
    pub(super) fn see(&mut self, wanted: &Wanted, page: Result<Page, String>) {
        if *wanted != self.wanted {
            return;
        }
        match page {
            Ok(page) => {
                self.wanted.choice = self.wanted.choice.min(page.choices.len().saturating_sub(1));
                self.page = Some(page);
                self.problem = None;
            }
            Err(problem) => self.problem = Some(problem),
        }
    }

    /// Does what a key says.
    pub(super) fn press(&mut self, key: KeyEvent) -> Next {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        let views = View::ALL.len();
        let view = View::ALL.iter().position(|view| *view == self.wanted.view).unwrap_or(0);
        let nodes = self.nodes.len().max(1);
        let choices = self.page.as_ref().map_or(0, |page| page.choices.len());
        match key.code {
            KeyCode::Char('q') | KeyCode::Esc => return Next::End,
            KeyCode::Char('c') if control => return Next::End,
            KeyCode::Char(digit @ '1'..='5') => {
                self.go_to(digit.to_digit(10).map_or(0, |digit| digit as usize - 1));
            }
            KeyCode::Tab => self.go_to((view + 1) % views),
            KeyCode::BackTab => self.go_to((view + views - 1) % views),
            KeyCode::Right => self.turn_to((self.wanted.node + 1) % nodes),
            KeyCode::Left => self.turn_to((self.wanted.node + nodes - 1) % nodes),
            KeyCode::Down if choices > 0 => self.choose((self.wanted.choice + 1) % choices),
            KeyCode::Up if choices > 0 => self.choose((self.wanted.choice + choices - 1) % choices),
            KeyCode::Down => self.scroll(1, true),
            KeyCode::Up => self.scroll(1, false),
            KeyCode::PageDown => self.scroll(LEAP, true),
            KeyCode::PageUp => self.scroll(LEAP, false),
            _ => {}
        }
        Next::Stay
    }

    fn go_to(&mut self, view: usize) {
        if let Some(view) = View::ALL.get(view).filter(|view| **view != self.wanted.view) {
            self.wanted = Wanted { view: *view, choice: 0, ..self.wanted };
            self.begin();
        }
    }

    fn turn_to(&mut self, node: usize) {
        if node != self.wanted.node {
            self.wanted = Wanted { node, choice: 0, ..self.wanted };
            self.begin();
        }
    }

    /// The choices stay on the screen while another is fetched.
    fn choose(&mut self, choice: usize) {
        self.wanted.choice = choice;
        self.scrolled = 0;
    }

    fn begin(&mut self) {
        (self.page, self.problem, self.scrolled) = (None, None, 0);
    }

    /// Down is towards the end of the page, from which a page that shows its end is counted.
    fn scroll(&mut self, lines: u16, down: bool) {
        let at_end = self.page.as_ref().is_some_and(|page| page.at_end);
        self.scrolled = if down == at_end {
            self.scrolled.saturating_sub(lines)
        } else {
            self.scrolled.saturating_add(lines)
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn press(screen: &mut Screen, code: KeyCode) -> Next {
        screen.press(KeyEvent::new(code, KeyModifiers::NONE))
    }

    #[test]
    fn keys_choose_views_nodes_and_what_is_in_them() {
        let mut screen = Screen::new(vec!["web1".to_owned(), "web2".to_owned()], false);
        press(&mut screen, KeyCode::Char('4'));
        assert_eq!(screen.wanted(), Wanted { node: 0, view: View::Resources, choice: 0 });
        let page = Page { choices: vec!["Boot".to_owned(), "Link".to_owned()], ..Page::default() };
        screen.see(&screen.wanted(), Ok(page));
        press(&mut screen, KeyCode::Up);
        assert_eq!(screen.wanted().choice, 1, "it goes round");
        press(&mut screen, KeyCode::Right);
        assert_eq!(screen.wanted(), Wanted { node: 1, view: View::Resources, choice: 0 });
        assert!(screen.page.is_none(), "the page of another node does not stay");
        press(&mut screen, KeyCode::Tab);
        press(&mut screen, KeyCode::Tab);
        assert_eq!(screen.wanted().view, View::Health);
        assert_eq!(press(&mut screen, KeyCode::Char('q')), Next::End);
    }

    #[test]
    fn what_is_no_longer_wanted_is_not_shown_and_a_problem_leaves_the_page() {
        let mut screen = Screen::new(vec!["web1".to_owned()], false);
        let old = screen.wanted();
        press(&mut screen, KeyCode::Char('2'));
        screen.see(&old, Ok(Page::default()));
        assert!(screen.page.is_none());
        screen.see(&screen.wanted(), Ok(Page::default()));
        screen.see(&screen.wanted(), Err("refused".to_owned()));
        assert!(screen.page.is_some() && screen.problem.is_some());
        screen.see(&screen.wanted(), Ok(Page::default()));
        assert!(screen.problem.is_none());
    }

    #[test]
    fn a_page_that_shows_its_end_scrolls_the_other_way() {
        let mut screen = Screen::new(vec!["web1".to_owned()], false);
        press(&mut screen, KeyCode::PageDown);
        press(&mut screen, KeyCode::Up);
        assert_eq!(screen.scrolled, 9);
        screen.see(&screen.wanted(), Ok(Page { at_end: true, ..Page::default() }));
        press(&mut screen, KeyCode::PageUp);
        assert_eq!(screen.scrolled, 19);
    }
}
