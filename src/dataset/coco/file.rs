//! Reads one COCO instances file as a stream: what the import needs of each entry is kept, polygons are skipped unread.

use std::{
    fmt,
    io::{BufReader, Read},
};

use serde::{
    Deserialize,
    de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

/// The lists of a COCO instances file, in the file's order: entry 17 is the file's `annotations[17]`.
#[derive(Debug, Default)]
pub(super) struct CocoFile {
    pub images: Vec<Image>,
    pub annotations: Vec<Annotation>,
    pub categories: Vec<Category>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Image {
    pub id: i64,
    pub file_name: String,
    pub width: u32,
    pub height: u32,
}

#[derive(Debug, Deserialize)]
pub(super) struct Annotation {
    pub id: i64,
    pub image_id: i64,
    pub category_id: i64,
}

#[derive(Debug, Deserialize)]
pub(super) struct Category {
    pub id: i64,
    pub name: String,
}

impl CocoFile {
    /// Reads to the end of `reader`. An error names the entry, the line and the column.
    pub(super) fn read(reader: impl Read) -> serde_json::Result<Self> {
        let mut json = serde_json::Deserializer::from_reader(BufReader::with_capacity(1 << 18, reader));
        let file = Self::deserialize(&mut json)?;
        json.end()?;
        Ok(file)
    }
}

impl<'de> Deserialize<'de> for CocoFile {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(CocoVisitor)
    }
}

struct CocoVisitor;

impl<'de> Visitor<'de> for CocoVisitor {
    type Value = CocoFile;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a COCO instances file: an object with `images`, `annotations` and `categories`")
    }

    /// The keys may come in any order; others than the three are skipped.
    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<CocoFile, M::Error> {
        let (mut images, mut annotations, mut categories) = (None, None, None);
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "images" => read_list("images", &mut images, &mut map)?,
                "annotations" => read_list("annotations", &mut annotations, &mut map)?,
                "categories" => read_list("categories", &mut categories, &mut map)?,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        let missing = |list| M::Error::custom(format_args!("not a COCO instances file: it has no `{list}`"));
        Ok(CocoFile {
            images: images.ok_or_else(|| missing("images"))?,
            annotations: annotations.ok_or_else(|| missing("annotations"))?,
            categories: categories.ok_or_else(|| missing("categories"))?,
        })
    }
}

fn read_list<'de, T: Deserialize<'de>, M: MapAccess<'de>>(
    name: &'static str,
    list: &mut Option<Vec<T>>,
    map: &mut M,
) -> Result<(), M::Error> {
    if list.is_some() {
        return Err(M::Error::custom(format_args!("`{name}` stands twice")));
    }
    map.next_value_seed(ListSeed { name, entries: list.get_or_insert_default() })
}

/// Appends a JSON array to `entries`, and says of an error which entry it is in.
struct ListSeed<'a, T> {
    name: &'static str,
    entries: &'a mut Vec<T>,
}

impl<'de, T: Deserialize<'de>> DeserializeSeed<'de> for ListSeed<'_, T> {
    type Value = ();
    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for ListSeed<'_, T> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` to be an array of objects", self.name)
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut seq: S) -> Result<(), S::Error> {
        loop {
            match seq.next_element() {
                Ok(Some(entry)) => self.entries.push(entry),
                Ok(None) => return Ok(()),
                // serde_json recovers line and column from the end of the wrapped message.
                Err(error) => {
                    return Err(S::Error::custom(format_args!("{}[{}]: {error}", self.name, self.entries.len())));
                }
            }
        }
    }
}
