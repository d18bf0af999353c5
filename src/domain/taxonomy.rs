//! A two-level taxonomy: fine labels, coarse categories, the parent of each fine label. Data, not code.
//!
//! ```json
//! { "name": "coco",
//!   "coarse": ["animal", "food"],
//!   "fine": [{ "name": "person", "public": true }, { "name": "dog", "parent": "animal" }] }
//! ```

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};

use super::{CoarseId, FineId, LabelSet};

/// The largest number of fine labels.
pub const MAX_FINE: usize = 4096;

/// Fine labels, coarse categories and who belongs to whom. Names are unique, every parent exists, every coarse category
/// has at least one fine label.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "TaxonomyFile", into = "TaxonomyFile")]
pub struct Taxonomy {
    name: String,
    coarse: Vec<String>,
    fine: Vec<FineLabel>,
}

/// One fine label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FineLabel {
    /// Its name, unique within the taxonomy.
    pub name: String,
    /// The category it belongs to; `None` for a *public* label, which may occur in any image.
    pub parent: Option<CoarseId>,
}

/// What the fine labels of one image say about its category.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parentage {
    /// No fine label at all.
    Unlabelled,
    /// Public labels only.
    PublicOnly,
    /// All non-public labels share this category: the image belongs to the data set.
    One(CoarseId),
    /// Labels of more than one category.
    Several,
}

impl Taxonomy {
    /// The 80 classes of COCO under the paper's 11 categories; `person` is public.
    pub fn coco() -> Self {
        serde_json::from_str(include_str!("coco.json")).expect("the built-in taxonomy is valid: a unit test loads it")
    }

    /// Parses a taxonomy. The error names the line, or the entry, and what is wrong with it.
    pub fn from_json(text: &str) -> Result<Self, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }

    /// What the taxonomy is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The fine labels, by index.
    pub fn fine(&self) -> &[FineLabel] {
        &self.fine
    }

    /// The names of the coarse categories, by index.
    pub fn coarse(&self) -> &[String] {
        &self.coarse
    }

    /// The name of a fine label; empty for an index of another taxonomy.
    pub fn fine_name(&self, fine: FineId) -> &str {
        self.fine.get(fine.index()).map_or("", |label| &label.name)
    }

    /// The name of a coarse category; empty for an index of another taxonomy.
    pub fn coarse_name(&self, coarse: CoarseId) -> &str {
        self.coarse.get(coarse.index()).map_or("", String::as_str)
    }

    /// The fine label of this name.
    pub fn find_fine(&self, name: &str) -> Option<FineId> {
        self.fine.iter().position(|label| label.name == name).map(|index| FineId(index as u16))
    }

    /// The coarse category of this name.
    pub fn find_coarse(&self, name: &str) -> Option<CoarseId> {
        self.coarse.iter().position(|coarse| coarse == name).map(|index| CoarseId(index as u16))
    }

    /// The category that `labels` have in common, public labels left out.
    pub fn parentage(&self, labels: &LabelSet) -> Parentage {
        let mut parents = labels.iter().filter_map(|fine| self.fine.get(fine.index())?.parent);
        match parents.next() {
            None if labels.is_empty() => Parentage::Unlabelled,
            None => Parentage::PublicOnly,
            Some(first) if parents.all(|parent| parent == first) => Parentage::One(first),
            Some(_) => Parentage::Several,
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TaxonomyFile {
    name: String,
    coarse: Vec<String>,
    fine: Vec<FineEntry>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FineEntry {
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    parent: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    public: bool,
}

impl TryFrom<TaxonomyFile> for Taxonomy {
    type Error = String;

    fn try_from(file: TaxonomyFile) -> Result<Self, String> {
        if file.name.trim().is_empty() {
            return Err("name: it is empty".into());
        }
        if file.coarse.len() < 2 {
            return Err(format!("coarse: a taxonomy has at least two categories, this one has {}", file.coarse.len()));
        }
        if file.fine.is_empty() || file.fine.len() > MAX_FINE {
            return Err(format!("fine: a taxonomy has 1 to {MAX_FINE} labels, this one has {}", file.fine.len()));
        }
        unique(file.coarse.iter().map(String::as_str), "coarse")?;
        unique(file.fine.iter().map(|entry| entry.name.as_str()), "fine")?;

        let by_name: HashMap<&str, CoarseId> =
            (0u16..).zip(&file.coarse).map(|(i, n)| (n.as_str(), CoarseId(i))).collect();
        let mut used = HashSet::new();
        let mut fine = Vec::with_capacity(file.fine.len());
        for (index, entry) in file.fine.iter().enumerate() {
            let place = format!("fine[{index}] “{}”", entry.name);
            let parent = match (&entry.parent, entry.public) {
                (Some(_), true) => {
                    return Err(format!("{place}: it is public and has a parent; leave one of the two out"));
                }
                (None, false) => return Err(format!("{place}: it has no parent; name one, or say \"public\": true")),
                (None, true) => None,
                (Some(parent), false) => Some(
                    *by_name
                        .get(parent.as_str())
                        .ok_or_else(|| format!("{place}: its parent “{parent}” is not among the coarse categories"))?,
                ),
            };
            used.extend(parent);
            fine.push(FineLabel { name: entry.name.clone(), parent });
        }
        if let Some((index, name)) =
            file.coarse.iter().enumerate().find(|(index, _)| !used.contains(&CoarseId(*index as u16)))
        {
            return Err(format!("coarse[{index}] “{name}”: no fine label has it as its parent"));
        }
        Ok(Self { name: file.name, coarse: file.coarse, fine })
    }
}

impl From<Taxonomy> for TaxonomyFile {
    fn from(taxonomy: Taxonomy) -> Self {
        let parent = |label: &FineLabel| label.parent.map(|coarse| taxonomy.coarse_name(coarse).to_owned());
        let fine = taxonomy
            .fine
            .iter()
            .map(|label| FineEntry { name: label.name.clone(), parent: parent(label), public: label.parent.is_none() })
            .collect();
        Self { name: taxonomy.name, coarse: taxonomy.coarse, fine }
    }
}

fn unique<'a>(names: impl Iterator<Item = &'a str>, list: &str) -> Result<(), String> {
    let mut seen = HashMap::new();
    for (index, name) in names.enumerate() {
        if name.trim().is_empty() {
            return Err(format!("{list}[{index}]: its name is empty"));
        }
        if let Some(first) = seen.insert(name, index) {
            return Err(format!("{list}[{index}] “{name}”: the same name stands at {list}[{first}]"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_taxonomy_is_cocos() {
        let coco = Taxonomy::coco();
        assert_eq!((coco.fine().len(), coco.coarse().len()), (80, 11));
        let public: Vec<_> =
            coco.fine().iter().filter(|label| label.parent.is_none()).map(|label| &*label.name).collect();
        assert_eq!(public, ["person"]);
        let dog = coco.find_fine("dog").unwrap();
        assert_eq!(coco.fine()[dog.index()].parent, coco.find_coarse("animal"));
        assert_eq!(Taxonomy::from_json(&serde_json::to_string(&coco).unwrap()), Ok(coco));
    }

    #[test]
    fn the_parent_of_an_image_is_what_its_labels_share() {
        let coco = Taxonomy::coco();
        let of = |names: &[&str]| coco.parentage(&names.iter().map(|name| coco.find_fine(name).unwrap()).collect());
        assert_eq!(of(&[]), Parentage::Unlabelled);
        assert_eq!(of(&["person"]), Parentage::PublicOnly);
        assert_eq!(of(&["person", "dog", "cat"]), Parentage::One(coco.find_coarse("animal").unwrap()));
        assert_eq!(of(&["dog", "car"]), Parentage::Several);
    }

    #[test]
    fn a_bad_taxonomy_is_refused_with_its_place() {
        let refused = |text: &str, expected: &str| {
            let error = Taxonomy::from_json(text).unwrap_err();
            assert!(error.contains(expected), "{error}");
        };
        let with = |fine: &str| {
            format!(
                r#"{{"name":"t","coarse":["a","b"],"fine":[{{"name":"x","parent":"a"}},{{"name":"y","parent":"b"}}{fine}]}}"#
            )
        };
        assert!(Taxonomy::from_json(&with("")).is_ok());
        refused(&with(r#",{"name":"z","parent":"c"}"#), "fine[2] “z”: its parent “c” is not among");
        refused(&with(r#",{"name":"x","parent":"a"}"#), "fine[2] “x”: the same name stands at fine[0]");
        refused(&with(r#",{"name":"z"}"#), "fine[2] “z”: it has no parent");
        refused(&with(r#",{"name":"z","parent":"a","public":true}"#), "fine[2] “z”: it is public and has a parent");
        refused(&with(r#",{"name":"z","colour":"red"}"#), "unknown field `colour`");
        refused(&with(",{"), "line 1 column");
        refused(
            r#"{"name":"t","coarse":["a","b"],"fine":[{"name":"x","parent":"a"}]}"#,
            "coarse[1] “b”: no fine label",
        );
        refused(
            r#"{"name":"t","coarse":["a","a"],"fine":[{"name":"x","parent":"a"}]}"#,
            "coarse[1] “a”: the same name",
        );
    }
}
