//! What is printed: a line for each comparison, with its bar and whether it was met.

use std::{fmt::Write as _, path::Path};

use anyhow::{Context as _, Result};

/// What a figure must satisfy.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bar {
    /// At least this.
    AtLeast(f64),
    /// At most this.
    AtMost(f64),
    /// Nothing: printed for information.
    None,
}

impl Bar {
    fn holds(self, figure: f64) -> bool {
        match self {
            Self::AtLeast(least) => figure >= least,
            Self::AtMost(most) => figure <= most,
            Self::None => true,
        }
    }

    fn text(self) -> String {
        match self {
            Self::AtLeast(least) => format!("≥ {}", number(least)),
            Self::AtMost(most) => format!("≤ {}", number(most)),
            Self::None => "-".into(),
        }
    }
}

/// One comparison.
#[derive(Clone, Debug)]
pub struct Line {
    /// What was measured.
    pub what: String,
    /// Our figure, with its unit.
    pub ours: String,
    /// What it is measured beside, with its figure; empty where there is no floor.
    pub floor: String,
    /// The figure that the bar is about, mostly ours divided by the floor's.
    pub figure: f64,
    /// The bar.
    pub bar: Bar,
    /// Shares of processor time, spread, and the like.
    pub note: String,
    /// Why the line counts for nothing; empty when it counts.
    pub void: String,
}

impl Line {
    fn verdict(&self) -> &'static str {
        if !self.void.is_empty() {
            "VOID"
        } else if self.bar == Bar::None {
            "-"
        } else if self.bar.holds(self.figure) {
            "pass"
        } else {
            "FAIL"
        }
    }

    fn cells(&self) -> [String; 6] {
        [
            self.what.clone(),
            self.ours.clone(),
            self.floor.clone(),
            number(self.figure),
            self.bar.text(),
            self.verdict().into(),
        ]
    }
}

/// All lines so far.
#[derive(Debug, Default)]
pub struct Report {
    facts: Vec<String>,
    lines: Vec<Line>,
}

impl Report {
    /// Prints and keeps a fact about the machine or the run.
    pub fn fact(&mut self, fact: String) {
        println!("{fact}");
        self.facts.push(fact);
    }

    /// Prints and keeps a line.
    pub fn line(&mut self, line: Line) {
        let [what, ours, floor, figure, bar, verdict] = line.cells();
        println!("{verdict:<4}  {what:<58} {ours:>16} {floor:>32} {figure:>9} {bar:>9}");
        if !line.void.is_empty() {
            println!("      void: {}", line.void);
        }
        if !line.note.is_empty() {
            println!("      {}", line.note);
        }
        self.lines.push(line);
    }

    /// Whether every line met its bar.
    pub fn passed(&self) -> bool {
        self.lines.iter().all(|line| matches!(line.verdict(), "pass" | "-"))
    }

    /// The whole report as Markdown.
    pub fn markdown(&self) -> String {
        let mut text = String::from("# Measured\n\n");
        for fact in &self.facts {
            let _ = writeln!(text, "- {fact}");
        }
        text.push_str("\n| what | ours | floor | figure | bar | |\n|---|---|---|---|---|---|\n");
        for line in &self.lines {
            let _ = writeln!(text, "| {} |", line.cells().join(" | "));
        }
        text.push_str("\n## Notes\n\n");
        for line in &self.lines {
            let why =
                if line.void.is_empty() { String::new() } else { format!("void: {}. ", line.void) };
            if !line.note.is_empty() || !why.is_empty() {
                let _ = writeln!(text, "- {}: {why}{}", line.what, line.note);
            }
        }
        text
    }

    /// Writes [`Report::markdown`] to `file`.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, file: &Path) -> Result<()> {
        std::fs::write(file, self.markdown()).with_context(|| format!("writing {}", file.display()))
    }
}

/// A figure at a length that can be read: `1,234,567`, `98.3`, `0.847`.
pub fn number(figure: f64) -> String {
    if figure.abs() < 10.0 {
        let text = format!("{figure:.3}");
        return text.trim_end_matches('0').trim_end_matches('.').into();
    }
    if figure.abs() < 1_000.0 {
        let text = format!("{figure:.1}");
        return text.trim_end_matches(".0").into();
    }
    let digits = format!("{figure:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The middle of `figures`; the lower one of two. Zero when there is none.
pub fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len().saturating_sub(1) / 2).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(figure: f64, bar: Bar, void: &str) -> Line {
        Line {
            what: "w".into(),
            ours: "1".into(),
            floor: String::new(),
            figure,
            bar,
            note: String::new(),
            void: void.into(),
        }
    }

    #[test]
    fn a_missed_bar_and_a_void_line_fail_the_report() {
        for (line, passes) in [
            (line(0.48, Bar::AtLeast(0.48), ""), true),
            (line(0.47, Bar::AtLeast(0.48), ""), false),
            (line(401.0, Bar::AtMost(400.0), ""), false),
            (line(0.48, Bar::AtLeast(0.48), "echo too slow"), false),
            (line(0.0, Bar::None, ""), true),
        ] {
            let mut report = Report::default();
            report.line(line);
            assert_eq!(report.passed(), passes, "{}", report.markdown());
        }
    }

    #[test]
    fn figures_are_short() {
        let written: Vec<_> =
            [1_234_567.0, 999.95, 98.26, 0.8471, 2.0, 100_000.0].map(number).into();
        assert_eq!(written, ["1,234,567", "1000", "98.3", "0.847", "2", "100,000"]);
    }

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0]), 1.0);
        assert_eq!(median(&[]), 0.0);
    }
}
