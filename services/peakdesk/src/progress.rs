//! Progress for people: one line that is written over itself on a terminal, now and then a line elsewhere.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// A line of progress on standard error.
pub struct Line {
    terminal: bool,
    every: Duration,
    said_at: Option<Instant>,
}

impl Line {
    /// A line that was not said yet.
    pub fn new() -> Self {
        let terminal = std::io::stderr().is_terminal();
        Line {
            terminal,
            every: if terminal {
                Duration::from_millis(200)
            } else {
                Duration::from_secs(5)
            },
            said_at: None,
        }
    }

    /// Says it, if it is time to.
    pub fn say(&mut self, text: impl FnOnce() -> String) {
        if self.said_at.is_some_and(|at| at.elapsed() < self.every) {
            return;
        }
        self.said_at = Some(Instant::now());
        let text = text();
        // Progress that cannot be shown is no reason to stop.
        let _ = if self.terminal {
            write!(std::io::stderr(), "\r\x1b[2K{text}")
        } else {
            writeln!(std::io::stderr(), "{text}")
        };
    }

    /// Leaves the line.
    pub fn end(&mut self) {
        if self.terminal && self.said_at.is_some() {
            let _ = writeln!(std::io::stderr());
        }
    }
}

/// A number with thin groups: 1 234 567.
pub fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(' ');
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    #[test]
    fn groups_of_three() {
        assert_eq!(
            [0, 12, 123, 1_234, 1_234_567].map(super::grouped),
            ["0", "12", "123", "1 234", "1 234 567"]
        );
    }
}
