//! What people say of images, and the views they keep.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A word or a few on an image, such as `mislabelled`: 1 to 40 characters, in small letters, without commas.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct Tag(String);

impl Tag {
    /// As stored and shown.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Tag {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let tag = text.trim().to_lowercase();
        if tag.is_empty() || tag.chars().count() > 40 {
            return Err(format!("tag: it has 1 to 40 characters, and “{tag}” has {}", tag.chars().count()));
        }
        if tag.chars().any(|character| character == ',' || character.is_control()) {
            return Err(format!("tag: “{tag}” has a comma or a control character; give one tag at a time"));
        }
        Ok(Self(tag))
    }
}

impl TryFrom<String> for Tag {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// A page of the program with everything that its address holds, kept under a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedView {
    /// Its number.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// Path and query.
    pub address: String,
    /// RFC 3339.
    pub created_at: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_tidied_or_refused() {
        assert_eq!("  Mislabelled ".parse::<Tag>().unwrap().as_str(), "mislabelled");
        assert!("".parse::<Tag>().is_err() && "a,b".parse::<Tag>().is_err() && "x".repeat(41).parse::<Tag>().is_err());
        assert!("ö".repeat(40).parse::<Tag>().is_ok());
    }
}
