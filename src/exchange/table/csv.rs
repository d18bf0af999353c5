//! CSV as in RFC 4180, with `\n` at the ends of lines: UTF-8, a heading, quotes where they are needed.

use std::{borrow::Cow, io};

use super::{Cell, Table};

/// What stands between several words in one cell.
const BETWEEN: &str = "; ";

/// Characters with which a spreadsheet's formula may begin:
/// <https://owasp.org/www-community/attacks/CSV_Injection>.
const OF_FORMULAS: [char; 7] = ['=', '+', '-', '@', '\t', '\r', '\n'];

/// The lines of a part.
pub fn part(table: &Table, with_heading: bool) -> io::Result<Vec<u8>> {
    let mut writer = ::csv::Writer::from_writer(Vec::new());
    if with_heading {
        writer.write_record(table.columns.iter().map(|column| &column.name))?;
    }
    for row in 0..table.rows() {
        for cell in table.row(row) {
            writer.write_field(&*text(&cell))?;
        }
        writer.write_record(None::<&[u8]>)?;
    }
    writer.into_inner().map_err(::csv::IntoInnerError::into_error)
}

fn text<'a>(cell: &Cell<'a>) -> Cow<'a, str> {
    match cell {
        Cell::Undefined => Cow::Borrowed(""),
        Cell::Integer(value) => value.to_string().into(),
        Cell::Real(value) => value.to_string().into(),
        Cell::Flag(value) => value.to_string().into(),
        Cell::Text(text) => harmless(Cow::Borrowed(text)),
        Cell::List(words) => harmless(words.join(BETWEEN).into()),
    }
}

/// Words that users gave must not be computed when a spreadsheet opens the file.
fn harmless(text: Cow<'_, str>) -> Cow<'_, str> {
    if text.starts_with(OF_FORMULAS) { format!("'{text}").into() } else { text }
}

#[cfg(test)]
mod tests {
    use super::super::tests::awkward;
    use super::*;

    #[test]
    fn undefined_is_empty_and_words_are_quoted_where_needed() {
        let text = String::from_utf8(part(&awkward(), true).unwrap()).unwrap();
        assert_eq!(
            text,
            "id,name,ia,ia_low,ia_high,right,labels\n\
             7,dog,0.1,0.05,0.25,true,hot dog; cat\n\
             -9007199254740993,\"'=1+\"\"1\"\",\n“ä”\",,,,false,\n\
             ,,,,,,\n"
        );
    }

    #[test]
    fn no_word_begins_a_formula() {
        for start in ["=", "+", "-", "@", "\t=", "\r=", "\n="] {
            assert_eq!(harmless(format!("{start}cmd").into()), format!("'{start}cmd"));
        }
        assert_eq!((harmless("a=b".into()), harmless("".into())), ("a=b".into(), "".into()));
        // A negative number is one.
        assert_eq!((text(&Cell::Real(-0.5)), text(&Cell::Integer(-1))), ("-0.5".into(), "-1".into()));
        assert_eq!(text(&Cell::List(&["-a".into(), "b".into()])), "'-a; b");
    }
}
