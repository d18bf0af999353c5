//! α of the focal loss.

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{Taxonomy, in_range};

/// α of the focal loss: one number for every fine label, or a number for each of some.
///
/// As text `0.25` or `dog=2, person=0.5`; in JSON `0.25` or `{"dog": 2, "person": 0.5}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a number, or an object from fine labels to numbers")]
pub enum FocalAlpha {
    /// The same for every fine label.
    Same(f64),
    /// By the fine label's name; labels left out have 1.
    ByLabel(BTreeMap<String, f64>),
}

impl FocalAlpha {
    pub(super) fn check(&self) -> Result<(), String> {
        match self {
            Self::Same(value) => in_range("focal_alpha", *value, f64::MIN_POSITIVE, 1e3),
            Self::ByLabel(values) if values.is_empty() => {
                Err("focal_alpha: it names no label; leave it out for 1".into())
            }
            Self::ByLabel(values) => values.iter().try_for_each(|(label, value)| {
                in_range(format_args!("focal_alpha: {label}"), *value, f64::MIN_POSITIVE, 1e3)
            }),
        }
    }

    /// One value per fine label of `taxonomy`. The error is a label that it lacks.
    pub(super) fn of_each(&self, taxonomy: &Taxonomy) -> Result<Vec<f64>, &str> {
        match self {
            Self::Same(value) => Ok(vec![*value; taxonomy.fine().len()]),
            Self::ByLabel(values) => {
                let mut alphas = vec![1.0; taxonomy.fine().len()];
                for (label, value) in values {
                    let fine = taxonomy.find_fine(label).ok_or(label.as_str())?;
                    alphas[fine.index()] = *value;
                }
                Ok(alphas)
            }
        }
    }
}

impl Default for FocalAlpha {
    fn default() -> Self {
        Self::Same(1.0)
    }
}

impl fmt::Display for FocalAlpha {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Same(value) => write!(f, "{value}"),
            Self::ByLabel(values) => {
                let pairs: Vec<_> = values.iter().map(|(label, value)| format!("{label}={value}")).collect();
                f.write_str(&pairs.join(", "))
            }
        }
    }
}

impl FromStr for FocalAlpha {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| text.trim().parse().ok().filter(|number: &f64| number.is_finite());
        if let Some(value) = number(text) {
            return Ok(Self::Same(value));
        }
        let mut values = BTreeMap::new();
        for pair in text.split(',') {
            let value = pair.rsplit_once('=').and_then(|(label, value)| Some((label, number(value)?)));
            let (label, value) = value.ok_or_else(|| {
                format!("“{}” is neither a number nor LABEL=NUMBER, as in dog=2, person=0.5", pair.trim())
            })?;
            if values.insert(label.trim().to_owned(), value).is_some() {
                return Err(format!("“{}” is there twice", label.trim()));
            }
        }
        Ok(Self::ByLabel(values))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<FocalAlpha, String> {
        text.parse()
    }

    #[test]
    fn text_and_json_say_the_same() {
        for (text, json) in [("0.25", "0.25"), ("dog=2.5, hot dog=0.5", r#"{"dog":2.5,"hot dog":0.5}"#)] {
            let alpha = parse(text).unwrap();
            assert_eq!(alpha.to_string(), text);
            assert_eq!(serde_json::to_string(&alpha).unwrap(), json);
            assert_eq!(serde_json::from_str::<FocalAlpha>(json).unwrap(), alpha);
        }
        assert_eq!(serde_json::from_str::<FocalAlpha>("2").unwrap(), parse(" 2 ").unwrap());
        assert_eq!(parse("dog=2,person=1").unwrap(), parse("person = 1, dog = 2").unwrap());
        for (text, says) in [
            ("dog", "“dog” is neither"),
            ("dog=2,", "“” is neither"),
            ("nan", "“nan” is neither"),
            ("a=1,a=2", "“a” is there twice"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn labels_left_out_have_one_and_unknown_ones_are_named() {
        let coco = Taxonomy::coco();
        let alphas = parse("dog=2").unwrap().of_each(&coco).unwrap();
        let dog = coco.find_fine("dog").unwrap().index();
        assert_eq!((alphas.len(), alphas[dog], alphas.iter().sum::<f64>()), (80, 2.0, 81.0));
        assert_eq!(parse("3").unwrap().of_each(&coco).unwrap(), [3.0; 80]);
        assert_eq!(parse("dog=2,unicorn=3").unwrap().of_each(&coco), Err("unicorn"));
    }
}
