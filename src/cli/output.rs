//! What commands print: plain text with aligned columns, or the JSON as it came.

use std::io::{self, ErrorKind, Write};

use jiff::Timestamp;

use super::failure::Failure;
use crate::report::Figure;

/// What stands where nothing is defined.
pub const UNDEFINED: &str = "–";

/// Writes to standard output, with a line end. A reader that went away (`| head`) is no failure.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let written = out.write_all(text.trim_end_matches('\n').as_bytes()).and_then(|()| out.write_all(b"\n"));
    match written.and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::because("the result cannot be printed", &error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// How a column stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// Names and words.
    Left,
    /// Numbers.
    Right,
}

/// Rows of text in aligned columns.
#[derive(Debug, Default)]
pub struct Table {
    aligns: Vec<Align>,
    rows: Vec<Vec<String>>,
    indent: usize,
}

impl Table {
    /// A table with a heading.
    pub fn new(columns: &[(&str, Align)]) -> Self {
        let heading = columns.iter().map(|(name, _)| (*name).to_owned()).collect();
        Self { aligns: columns.iter().map(|(_, align)| *align).collect(), rows: vec![heading], indent: 0 }
    }

    /// Two columns, name and value, without a heading.
    pub fn facts() -> Self {
        Self { aligns: vec![Align::Left, Align::Left], ..Self::default() }
    }

    /// The same, shifted to the right.
    pub fn indented(self, indent: usize) -> Self {
        Self { indent, ..self }
    }

    /// Adds a row.
    pub fn row<S: Into<String>>(&mut self, cells: impl IntoIterator<Item = S>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }

    /// Adds a name and its value.
    pub fn fact(&mut self, name: &str, value: impl Into<String>) {
        self.row([name.to_owned(), value.into()]);
    }

    /// The text, one line per row, without spaces at line ends.
    pub fn render(&self) -> String {
        let width = |column: usize| {
            self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.aligns.len()).map(width).collect();
        let mut text = String::new();
        for row in &self.rows {
            let cells = row.iter().zip(&self.aligns).zip(&widths).map(|((cell, align), &width)| match align {
                Align::Left => format!("{cell:<width$}"),
                Align::Right => format!("{cell:>width$}"),
            });
            let line = format!("{:indent$}{}", "", cells.collect::<Vec<_>>().join("  "), indent = self.indent);
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// Three decimals.
pub fn number(value: Option<f64>) -> String {
    value.map_or_else(|| UNDEFINED.to_owned(), |value| format!("{value:.3}"))
}

/// `0.465 – 0.559`, the interval of a figure.
pub fn interval(figure: &Figure) -> String {
    match (figure.low, figure.high) {
        (Some(low), Some(high)) if figure.degenerate => {
            format!("{low:.3} – {high:.3} (nothing varied in the resamples)")
        }
        (Some(low), Some(high)) => format!("{low:.3} – {high:.3}"),
        _ => UNDEFINED.to_owned(),
    }
}

/// With thousands separated: `58,107`.
pub fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 run`, `2 runs`.
pub fn plural(value: u64, noun: &str) -> String {
    format!("{} {noun}{}", count(value), if value == 1 { "" } else { "s" })
}

/// `2026-01-31 14:05:09 UTC` from RFC 3339.
pub fn time(rfc3339: &str) -> String {
    rfc3339.parse().map_or_else(|_| rfc3339.to_owned(), |time: Timestamp| time.strftime("%F %T UTC").to_string())
}

/// `41 s`, `3 min 20 s`, `2 h 5 min`.
pub fn duration(seconds: f64) -> String {
    let seconds = seconds.max(0.0).round() as u64;
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, s) => format!("{s} s"),
        (0, m, s) => format!("{m} min {s} s"),
        (h, m, _) => format!("{h} h {m} min"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_lines_end_clean() {
        let mut table = Table::new(&[("id", Align::Right), ("name", Align::Left), ("", Align::Left)]).indented(2);
        table.row(["7", "“ä”", ""]);
        table.row(["12", "b", "x"]);
        assert_eq!(table.render(), "  id  name\n   7  “ä”\n  12  b     x\n");
    }

    #[test]
    fn times_are_short() {
        assert_eq!(time("2026-01-31T14:05:09.879298813Z"), "2026-01-31 14:05:09 UTC");
        assert_eq!(time("yesterday"), "yesterday");
    }

    #[test]
    fn figures_are_short_and_honest() {
        assert_eq!((number(Some(0.12349)).as_str(), number(None).as_str()), ("0.123", "–"));
        let figure = Figure { value: Some(1.0), low: Some(0.98), high: Some(1.0), ..Figure::default() };
        assert_eq!(interval(&figure), "0.980 – 1.000");
        assert_eq!(interval(&Figure::default()), "–");
        assert_eq!((count(58107).as_str(), count(7).as_str(), count(1_234_567).as_str()), ("58,107", "7", "1,234,567"));
        assert_eq!(
            (duration(41.4), duration(200.0), duration(7500.0)),
            ("41 s".into(), "3 min 20 s".into(), "2 h 5 min".into())
        );
    }
}
