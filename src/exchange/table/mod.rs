//! Tables of named columns, and the files they become: CSV, JSON, Parquet and LaTeX say the same.
//!
//! | | CSV | JSON | Parquet |
//! |---|---|---|---|
//! | undefined | empty | `null` | null |
//! | several words | joined by “; ” | array | list |
//! | a word that a spreadsheet would compute | `'` in front | unchanged | unchanged |

mod csv;
mod json;
mod latex;
mod parquet;

use std::{fmt, io, str::FromStr};

pub use latex::latex;

/// Columns of the same length.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    columns: Vec<Column>,
}

/// A named column.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    /// As files name it: lower case, words joined by `_`.
    pub name: String,
    /// As a printed table names it; one without a heading is not printed.
    pub heading: Option<&'static str>,
    /// The cells, from above.
    pub values: Values,
}

/// The cells of a column; `None` is undefined.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// Whole numbers.
    Integer(Vec<Option<i64>>),
    /// Numbers. What is not finite counts as undefined.
    Real(Vec<Option<f64>>),
    /// Yes or no.
    Flag(Vec<Option<bool>>),
    /// Words.
    Text(Vec<Option<String>>),
    /// Several words.
    List(Vec<Option<Vec<String>>>),
}

/// What a file of a table is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Comma-separated, with a heading.
    Csv,
    /// An array with an object for each row.
    Json,
    /// Apache Parquet.
    Parquet,
    /// A printed table for LaTeX.
    Latex,
}

/// Writes a long table part by part. All parts have the columns of the first.
pub struct Encoder(State);

enum State {
    Csv { begun: bool },
    Json { begun: bool },
    Parquet(Option<Box<parquet::Writer>>),
}

/// One cell.
enum Cell<'a> {
    Undefined,
    Integer(i64),
    Real(f64),
    Flag(bool),
    Text(&'a str),
    List(&'a [String]),
}

impl Table {
    /// Of columns of the same length.
    pub fn new(columns: Vec<Column>) -> Self {
        debug_assert!(columns.windows(2).all(|pair| pair[0].values.len() == pair[1].values.len()));
        Self { columns }
    }

    /// The columns.
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// How many rows it has.
    pub fn rows(&self) -> usize {
        self.columns.first().map_or(0, |column| column.values.len())
    }

    /// The cells of a row.
    fn row(&self, row: usize) -> impl Iterator<Item = Cell<'_>> {
        self.columns.iter().map(move |column| column.values.cell(row))
    }
}

impl Column {
    /// A column that is not printed.
    pub fn new(name: impl Into<String>, values: Values) -> Self {
        Self { name: name.into(), heading: None, values }
    }

    /// The same, printed under a heading. With a number stand its interval or its spread, which are the columns of its name
    /// with `_low`, `_high` and `_spread` behind it.
    pub fn printed(self, heading: &'static str) -> Self {
        Self { heading: Some(heading), ..self }
    }
}

impl Values {
    fn len(&self) -> usize {
        match self {
            Self::Integer(cells) => cells.len(),
            Self::Real(cells) => cells.len(),
            Self::Flag(cells) => cells.len(),
            Self::Text(cells) => cells.len(),
            Self::List(cells) => cells.len(),
        }
    }

    fn cell(&self, row: usize) -> Cell<'_> {
        let cell = match self {
            Self::Integer(cells) => cells[row].map(Cell::Integer),
            Self::Real(cells) => cells[row].filter(|value| value.is_finite()).map(Cell::Real),
            Self::Flag(cells) => cells[row].map(Cell::Flag),
            Self::Text(cells) => cells[row].as_deref().map(Cell::Text),
            Self::List(cells) => cells[row].as_deref().map(Cell::List),
        };
        cell.unwrap_or(Cell::Undefined)
    }
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Csv, Self::Json, Self::Parquet, Self::Latex];

    /// Those for tables of any length.
    pub const TABLES: [Self; 3] = [Self::Csv, Self::Json, Self::Parquet];

    /// As `format=` names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Json => "json",
            Self::Parquet => "parquet",
            Self::Latex => "latex",
        }
    }

    /// How names of such files end.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Latex => "tex",
            Self::Csv | Self::Json | Self::Parquet => self.as_str(),
        }
    }

    /// The media type of such files.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Csv => "text/csv; charset=utf-8",
            Self::Json => "application/json",
            Self::Parquet => "application/vnd.apache.parquet",
            Self::Latex => "application/x-tex; charset=utf-8",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Format {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|format| format.as_str() == text).ok_or_else(|| {
            let all = Self::ALL.map(Self::as_str).join(", ");
            format!("“{text}” is not a format; they are {all}")
        })
    }
}

impl Encoder {
    /// Of a file of this format; `None` for one that is not written part by part.
    pub fn new(format: Format) -> Option<Self> {
        Some(Self(match format {
            Format::Csv => State::Csv { begun: false },
            Format::Json => State::Json { begun: false },
            Format::Parquet => State::Parquet(None),
            Format::Latex => return None,
        }))
    }

    /// The bytes of a part.
    pub fn part(&mut self, table: &Table) -> io::Result<Vec<u8>> {
        match &mut self.0 {
            State::Csv { begun } => csv::part(table, !std::mem::replace(begun, true)),
            State::Json { begun } => json::part(table, begun),
            State::Parquet(writer) => {
                if writer.is_none() {
                    *writer = Some(Box::new(parquet::Writer::new(table)?));
                }
                writer.as_mut().map_or_else(|| Ok(Vec::new()), |writer| writer.part(table))
            }
        }
    }

    /// The bytes after the last part, of which there is at least one.
    pub fn end(self) -> io::Result<Vec<u8>> {
        match self.0 {
            State::Csv { .. } => Ok(Vec::new()),
            State::Json { begun } => Ok(json::end(begun)),
            State::Parquet(writer) => writer.map_or_else(|| Ok(Vec::new()), |writer| writer.end()),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Every kind of cell, defined and not; the second row has what is awkward.
    pub fn awkward() -> Table {
        let text = |text: &str| Some(text.to_owned());
        Table::new(vec![
            Column::new("id", Values::Integer(vec![Some(7), Some(-9_007_199_254_740_993), None])),
            Column::new("name", Values::Text(vec![text("dog"), text("=1+\"1\",\n“ä”"), None])).printed("Name"),
            Column::new("ia", Values::Real(vec![Some(0.1), Some(f64::NAN), None])).printed("IA"),
            Column::new("ia_low", Values::Real(vec![Some(0.05), None, None])),
            Column::new("ia_high", Values::Real(vec![Some(0.25), None, None])),
            Column::new("right", Values::Flag(vec![Some(true), Some(false), None])),
            Column::new(
                "labels",
                Values::List(vec![Some(vec!["hot dog".into(), "cat".into()]), Some(Vec::new()), None]),
            ),
        ])
    }

    /// In one part, or a part for each row.
    pub fn encoded(format: Format, parts: &[Table]) -> Vec<u8> {
        let mut encoder = Encoder::new(format).unwrap();
        let mut bytes: Vec<u8> = parts.iter().flat_map(|part| encoder.part(part).unwrap()).collect();
        bytes.extend(encoder.end().unwrap());
        bytes
    }

    /// Its rows from `start` to before `end`.
    pub fn part(table: &Table, start: usize, end: usize) -> Table {
        let columns = table.columns.iter().map(|column| {
            let values = match &column.values {
                Values::Integer(cells) => Values::Integer(cells[start..end].to_vec()),
                Values::Real(cells) => Values::Real(cells[start..end].to_vec()),
                Values::Flag(cells) => Values::Flag(cells[start..end].to_vec()),
                Values::Text(cells) => Values::Text(cells[start..end].to_vec()),
                Values::List(cells) => Values::List(cells[start..end].to_vec()),
            };
            Column { values, ..column.clone() }
        });
        Table::new(columns.collect())
    }

    #[test]
    fn formats_are_named() {
        for format in Format::ALL {
            assert_eq!(format.to_string().parse(), Ok(format));
        }
        assert!(
            "xls".parse::<Format>().unwrap_err().contains("“xls” is not a format; they are csv, json, parquet, latex")
        );
    }

    #[test]
    fn parts_make_the_same_text_as_the_whole() {
        let whole = awkward();
        let parts = [part(&whole, 0, 0), part(&whole, 0, 1), part(&whole, 1, 3)];
        for format in [Format::Csv, Format::Json] {
            assert_eq!(encoded(format, &parts), encoded(format, std::slice::from_ref(&whole)));
        }
    }
}
