//! JSON: an array with an object for each row, a line each.

use std::io;

use serde::{
    Serialize, Serializer,
    ser::{SerializeMap, SerializeSeq},
};

use super::{Cell, Table};

/// The rows of a part. `begun`: whether there were rows before; it is true once there are.
pub fn part(table: &Table, begun: &mut bool) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for row in 0..table.rows() {
        bytes.extend_from_slice(if *begun { b",\n" } else { b"[\n" });
        serde_json::to_writer(&mut bytes, &Row { table, row })?;
        *begun = true;
    }
    Ok(bytes)
}

/// What follows the last row.
pub fn end(begun: bool) -> Vec<u8> {
    if begun { "\n]\n" } else { "[]\n" }.into()
}

struct Row<'a> {
    table: &'a Table,
    row: usize,
}

impl Serialize for Row<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.table.columns.len()))?;
        for (column, cell) in self.table.columns.iter().zip(self.table.row(self.row)) {
            map.serialize_entry(&column.name, &cell)?;
        }
        map.end()
    }
}

impl Serialize for Cell<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Undefined => serializer.serialize_none(),
            Self::Integer(value) => serializer.serialize_i64(*value),
            Self::Real(value) => serializer.serialize_f64(*value),
            Self::Flag(value) => serializer.serialize_bool(*value),
            Self::Text(text) => serializer.serialize_str(text),
            Self::List(words) => {
                let mut sequence = serializer.serialize_seq(Some(words.len()))?;
                words.iter().try_for_each(|word| sequence.serialize_element(word))?;
                sequence.end()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::{
        Format,
        tests::{awkward, encoded, part},
    };

    #[test]
    fn undefined_is_null_and_words_are_exact() {
        let rows: Value = serde_json::from_slice(&encoded(Format::Json, &[awkward()])).unwrap();
        assert_eq!(
            rows,
            json!([
                {"id": 7, "name": "dog", "ia": 0.1, "ia_low": 0.05, "ia_high": 0.25, "right": true, "labels": ["hot dog", "cat"]},
                {"id": -9_007_199_254_740_993_i64, "name": "=1+\"1\",\n“ä”", "ia": null, "ia_low": null, "ia_high": null,
                 "right": false, "labels": []},
                {"id": null, "name": null, "ia": null, "ia_low": null, "ia_high": null, "right": null, "labels": null},
            ])
        );
    }

    #[test]
    fn nothing_is_an_empty_array() {
        let nothing = part(&awkward(), 0, 0);
        for parts in [vec![nothing.clone()], vec![nothing.clone(), nothing]] {
            assert_eq!(serde_json::from_slice::<Value>(&encoded(Format::Json, &parts)).unwrap(), json!([]));
        }
    }
}
