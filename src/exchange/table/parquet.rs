//! Parquet: a row group for each part, compressed by gzip, which every reader knows.

use std::{io, sync::Arc};

use ::parquet::{
    basic::Compression,
    data_type::{BoolType, ByteArray, ByteArrayType, DataType, DoubleType, Int64Type},
    errors::{ParquetError, Result},
    file::{
        properties::WriterProperties,
        writer::{SerializedColumnWriter, SerializedFileWriter},
    },
    schema::parser::parse_message_type,
};

use super::{Table, Values};

/// Writes one file into memory, from where it is taken part by part.
pub struct Writer(SerializedFileWriter<Vec<u8>>);

impl Writer {
    /// Of tables with these columns.
    pub fn new(table: &Table) -> io::Result<Self> {
        let properties = WriterProperties::builder()
            .set_created_by(concat!("twograin ", env!("CARGO_PKG_VERSION")).into())
            .set_compression(Compression::GZIP(Default::default()))
            .build();
        let schema = parse_message_type(&schema(table)).map_err(io::Error::other)?;
        let writer = SerializedFileWriter::new(Vec::new(), Arc::new(schema), Arc::new(properties));
        Ok(Self(writer.map_err(io::Error::other)?))
    }

    /// The bytes of a part.
    pub fn part(&mut self, table: &Table) -> io::Result<Vec<u8>> {
        if table.rows() > 0 {
            self.row_group(table).map_err(io::Error::other)?;
        }
        self.0.flush()?;
        Ok(std::mem::take(self.0.inner_mut()))
    }

    /// The bytes after the last part.
    pub fn end(self) -> io::Result<Vec<u8>> {
        self.0.into_inner().map_err(io::Error::other)
    }

    fn row_group(&mut self, table: &Table) -> Result<()> {
        let mut group = self.0.next_row_group()?;
        for column in &table.columns {
            let missing = || ParquetError::General(format!("there is no column {} in the file", column.name));
            let mut writer = group.next_column()?.ok_or_else(missing)?;
            write(&mut writer, &column.values)?;
            writer.close()?;
        }
        group.close().map(drop)
    }
}

/// Every column may be undefined. Names are ours: letters and `_`.
fn schema(table: &Table) -> String {
    let columns = table.columns.iter().map(|column| {
        let name = &column.name;
        match column.values {
            Values::Integer(_) => format!("optional int64 {name};"),
            Values::Real(_) => format!("optional double {name};"),
            Values::Flag(_) => format!("optional boolean {name};"),
            Values::Text(_) => format!("optional byte_array {name} (string);"),
            Values::List(_) => format!(
                "optional group {name} (list) {{ repeated group list {{ required byte_array element (string); }} }}"
            ),
        }
    });
    format!("message twograin {{ {} }}", columns.collect::<Vec<_>>().join(" "))
}

fn write(writer: &mut SerializedColumnWriter, values: &Values) -> Result<()> {
    match values {
        Values::Integer(cells) => cells_of::<Int64Type>(writer, cells.iter().copied()),
        Values::Real(cells) => {
            let finite = |cell: &Option<f64>| cell.filter(|value| value.is_finite());
            cells_of::<DoubleType>(writer, cells.iter().map(finite))
        }
        Values::Flag(cells) => cells_of::<BoolType>(writer, cells.iter().copied()),
        Values::Text(cells) => {
            cells_of::<ByteArrayType>(writer, cells.iter().map(|cell| cell.as_deref().map(ByteArray::from)))
        }
        Values::List(cells) => lists(writer, cells),
    }
}

/// The defined cells, and for each cell 1 if it is, 0 if it is not.
fn cells_of<T: DataType>(writer: &mut SerializedColumnWriter, cells: impl Iterator<Item = Option<T::T>>) -> Result<()> {
    let (mut defined, mut levels) = (Vec::new(), Vec::new());
    for cell in cells {
        levels.push(i16::from(cell.is_some()));
        defined.extend(cell);
    }
    writer.typed::<T>().write_batch(&defined, Some(&levels), None).map(drop)
}

/// All words, and for each, or for a list without, how much of it is defined: 0 nothing, 1 the list, 2 a word; and whether it
/// begins a list (0) or goes on with one (1).
fn lists(writer: &mut SerializedColumnWriter, cells: &[Option<Vec<String>>]) -> Result<()> {
    let (mut words, mut defined, mut repeated) = (Vec::new(), Vec::new(), Vec::new());
    for cell in cells {
        let list = cell.as_deref().unwrap_or_default();
        if list.is_empty() {
            defined.push(i16::from(cell.is_some()));
            repeated.push(0);
        }
        for (index, word) in list.iter().enumerate() {
            words.push(ByteArray::from(word.as_str()));
            defined.push(2);
            repeated.push(i16::from(index > 0));
        }
    }
    writer.typed::<ByteArrayType>().write_batch(&words, Some(&defined), Some(&repeated)).map(drop)
}

#[cfg(test)]
mod tests {
    use std::{fs::File, io::Write};

    use ::parquet::{
        file::reader::{FileReader, SerializedFileReader},
        record::Row,
    };

    use super::super::{
        Format,
        tests::{awkward, encoded, part},
    };

    fn reader(bytes: &[u8]) -> SerializedFileReader<File> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        SerializedFileReader::new(file).unwrap()
    }

    /// Through the crate's reader, cell by cell.
    fn read(bytes: Vec<u8>) -> (usize, Vec<Row>) {
        let reader = reader(&bytes);
        let groups = reader.metadata().num_row_groups();
        (groups, reader.get_row_iter(None).unwrap().map(|row| row.unwrap()).collect())
    }

    fn fields(row: &Row) -> Vec<String> {
        row.get_column_iter().map(|(_, field)| format!("{field:?}")).collect()
    }

    #[test]
    fn what_is_read_is_what_was_written() {
        let whole = awkward();
        let (groups, rows) =
            read(encoded(Format::Parquet, &[part(&whole, 0, 0), part(&whole, 0, 2), part(&whole, 2, 3)]));
        assert_eq!((groups, rows.len()), (2, 3));
        let names: Vec<&String> = rows[0].get_column_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["id", "name", "ia", "ia_low", "ia_high", "right", "labels"]);
        let words = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|word| format!("Str({word:?})")).collect();
            format!("ListInternal(List {{ elements: [{}] }})", words.join(", "))
        };
        assert_eq!(fields(&rows[0])[..2], ["Long(7)", "Str(\"dog\")"]);
        assert_eq!(fields(&rows[0])[2..6], ["Double(0.1)", "Double(0.05)", "Double(0.25)", "Bool(true)"]);
        assert_eq!(fields(&rows[0])[6], words(&["hot dog", "cat"]));
        assert_eq!(fields(&rows[1])[..2], ["Long(-9007199254740993)", "Str(\"=1+\\\"1\\\",\\n“ä”\")"]);
        assert_eq!(fields(&rows[1])[2..], ["Null", "Null", "Null", "Bool(false)", &words(&[])]);
        assert_eq!(fields(&rows[2]), ["Null"; 7]);
    }

    #[test]
    fn a_table_without_rows_is_a_file_with_columns() {
        let bytes = encoded(Format::Parquet, &[part(&awkward(), 0, 0)]);
        let reader = reader(&bytes);
        let schema = reader.metadata().file_metadata().schema();
        assert_eq!((schema.get_fields().len(), reader.metadata().num_row_groups()), (7, 0));
    }
}
