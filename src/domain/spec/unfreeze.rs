//! Which parts of a pretrained backbone learn, from when on, and how fast.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{Backbone, in_range};

/// Which layer groups of the backbone learn. A frozen one computes as in inference: running statistics, no dropout. The head
/// always learns.
///
/// In JSON `"all"`, `"none"`, or a list of [`Thaw`]s; in text `all`, `none`, or `layer4@3:0.002, layer3@5`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "Json", into = "Json")]
pub enum Unfreeze {
    /// Everything learns from the first epoch on.
    #[default]
    All,
    /// These learn, the others stay as they were; none: a linear probe (Alain & Bengio 2016), here with a two-level head.
    Groups(Vec<Thaw>),
}

/// When a layer group starts to learn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Thaw {
    /// One of [`Backbone::layer_groups`].
    pub group: String,
    /// The first epoch in which it learns, from 1.
    #[serde(default = "first")]
    pub epoch: usize,
    /// Its highest learning rate, which follows the run's schedule in proportion; by default the run's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub learning_rate: Option<f64>,
}

fn first() -> usize {
    1
}

impl Unfreeze {
    /// How many layer groups, counted from the image on, are frozen in an epoch.
    pub fn frozen(&self, backbone: Backbone, epoch: usize) -> usize {
        match self {
            Self::All => 0,
            Self::Groups(thaws) => {
                backbone.layer_groups().len() - thaws.iter().filter(|thaw| thaw.epoch <= epoch).count()
            }
        }
    }

    /// The highest learning rate of a layer group, `run` being the run's; `None` if it never learns.
    pub(super) fn learning_rate(&self, group: &str, run: f64) -> Option<f64> {
        match self {
            Self::All => Some(run),
            Self::Groups(thaws) => {
                let thaw = thaws.iter().find(|thaw| thaw.group == group)?;
                Some(thaw.learning_rate.unwrap_or(run))
            }
        }
    }

    /// The last epoch in which a layer group begins to learn; 1 if all do from the start, or none ever.
    pub fn last_thaw(&self) -> usize {
        match self {
            Self::All => 1,
            Self::Groups(thaws) => thaws.iter().map(|thaw| thaw.epoch).max().unwrap_or(1),
        }
    }

    /// The one way in which it is written: from the head downwards, without rates that are the run's own, and `all` where that
    /// is what it says.
    pub(super) fn canonical(self, backbone: Backbone, run: f64) -> Self {
        let Self::Groups(mut thaws) = self else { return self };
        let groups = backbone.layer_groups();
        thaws.sort_by_key(|thaw| std::cmp::Reverse(groups.iter().position(|group| *group == thaw.group)));
        for thaw in &mut thaws {
            thaw.learning_rate = thaw.learning_rate.filter(|rate| *rate != run);
        }
        let whole =
            thaws.len() == groups.len() && thaws.iter().all(|thaw| thaw.epoch == 1 && thaw.learning_rate.is_none());
        if whole { Self::All } else { Self::Groups(thaws) }
    }

    /// Whether no layer group of the backbone ever learns.
    pub fn is_none(&self) -> bool {
        matches!(self, Self::Groups(thaws) if thaws.is_empty())
    }

    /// Refuses what cannot be done; the error names the field.
    pub(super) fn check(&self, backbone: Backbone, epochs: usize) -> Result<(), String> {
        let Self::Groups(thaws) = self else { return Ok(()) };
        let groups = backbone.layer_groups();
        for Thaw { group, epoch, learning_rate } in thaws {
            if !groups.contains(&&**group) {
                return Err(format!(
                    "unfreeze: {backbone} has no layer group “{group}”; it has {}, from image to head",
                    groups.join(", ")
                ));
            }
            if thaws.iter().filter(|thaw| thaw.group == *group).count() > 1 {
                return Err(format!("unfreeze: {group} is there twice"));
            }
            if !(1..=epochs).contains(epoch) {
                return Err(format!("unfreeze: {group}: epoch {epoch} is outside 1 to {epochs}"));
            }
            if let Some(rate) = learning_rate {
                in_range(format_args!("unfreeze: {group}: learning_rate"), *rate, f64::MIN_POSITIVE, 100.0)?;
            }
        }
        // What learns reads what is frozen: the frozen groups are always the first ones.
        let epoch = |group: &str| thaws.iter().find(|thaw| thaw.group == group).map(|thaw| thaw.epoch);
        for pair in groups.windows(2) {
            if let (Some(lower), upper) = (epoch(pair[0]), epoch(pair[1]))
                && upper.is_none_or(|upper| upper > lower)
            {
                return Err(format!(
                    "unfreeze: {} learns before {}, which comes after it; unfreeze from the head downwards",
                    pair[0], pair[1]
                ));
            }
        }
        Ok(())
    }
}

/// As it stands in JSON.
#[derive(Serialize, Deserialize)]
#[serde(untagged, expecting = "expected \"all\", \"none\", or a list of {\"group\", \"epoch\", \"learning_rate\"}")]
enum Json {
    Word(Word),
    Groups(Vec<Thaw>),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Word {
    All,
    None,
}

impl From<Json> for Unfreeze {
    fn from(json: Json) -> Self {
        match json {
            Json::Word(Word::All) => Self::All,
            Json::Word(Word::None) => Self::Groups(Vec::new()),
            Json::Groups(thaws) => Self::Groups(thaws),
        }
    }
}

impl From<Unfreeze> for Json {
    fn from(unfreeze: Unfreeze) -> Self {
        match unfreeze {
            Unfreeze::All => Self::Word(Word::All),
            Unfreeze::Groups(thaws) if thaws.is_empty() => Self::Word(Word::None),
            Unfreeze::Groups(thaws) => Self::Groups(thaws),
        }
    }
}

impl fmt::Display for Unfreeze {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let thaws = match self {
            Self::All => return f.write_str("all"),
            Self::Groups(thaws) if thaws.is_empty() => return f.write_str("none"),
            Self::Groups(thaws) => thaws,
        };
        for (index, Thaw { group, epoch, learning_rate }) in thaws.iter().enumerate() {
            write!(f, "{}{group}@{epoch}", if index == 0 { "" } else { ", " })?;
            if let Some(rate) = learning_rate {
                write!(f, ":{rate}")?;
            }
        }
        Ok(())
    }
}

impl FromStr for Unfreeze {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim() {
            "all" => Ok(Self::All),
            "none" => Ok(Self::Groups(Vec::new())),
            text => text.split(',').map(thaw).collect::<Result<_, _>>().map(Self::Groups),
        }
    }
}

/// `GROUP`, `GROUP@EPOCH`, `GROUP:RATE` or `GROUP@EPOCH:RATE`.
fn thaw(text: &str) -> Result<Thaw, String> {
    let wrong = || format!("“{}” is not all, none, or a layer group such as layer4@3:0.002", text.trim());
    let (rest, rate) = match text.split_once(':') {
        Some((rest, rate)) => {
            (rest, Some(rate.trim().parse().ok().filter(|rate: &f64| rate.is_finite()).ok_or_else(wrong)?))
        }
        None => (text, None),
    };
    let (group, epoch) = match rest.split_once('@') {
        Some((group, epoch)) => (group, epoch.trim().parse().map_err(|_| wrong())?),
        None => (rest, first()),
    };
    match group.trim() {
        "" => Err(wrong()),
        group => Ok(Thaw { group: group.into(), epoch, learning_rate: rate }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Unfreeze {
        text.parse().unwrap()
    }

    #[test]
    fn text_and_json_round_trip() {
        for (text, json) in [
            ("all", r#""all""#),
            ("none", r#""none""#),
            ("layer4@1", r#"[{"group":"layer4","epoch":1}]"#),
            (
                "layer4@2:0.002, layer3@5",
                r#"[{"group":"layer4","epoch":2,"learning_rate":0.002},{"group":"layer3","epoch":5}]"#,
            ),
        ] {
            let unfreeze = parse(text);
            assert_eq!((unfreeze.to_string(), serde_json::to_string(&unfreeze).unwrap()), (text.into(), json.into()));
            assert_eq!(serde_json::from_str::<Unfreeze>(json).unwrap(), unfreeze);
        }
        assert_eq!(parse(" layer4 , layer3 : 0.1 "), parse("layer4@1,layer3@1:0.1"));
        assert_eq!(serde_json::from_str::<Unfreeze>(r#"[{"group":"layer4"}]"#).unwrap(), parse("layer4"));
        for text in ["", "layer4:nan", "layer4:inf", "layer4@", "@3", "layer4@x", "layer4:fast", "layer4@3:"] {
            assert!(text.parse::<Unfreeze>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_frozen_groups_are_the_first_ones_and_get_fewer() {
        let unfreeze = parse("layer4@2:0.002,layer3@5");
        unfreeze.check(Backbone::ResNet34, 10).unwrap();
        let frozen: Vec<usize> = (1..=6).map(|epoch| unfreeze.frozen(Backbone::ResNet34, epoch)).collect();
        assert_eq!(frozen, [5, 4, 4, 4, 3, 3]);
        let rates = ["layer4", "layer3", "layer2"].map(|group| unfreeze.learning_rate(group, 0.1));
        assert_eq!(rates, [Some(0.002), Some(0.1), None]);
        assert_eq!((Unfreeze::All.frozen(Backbone::Vgg16, 1), parse("none").frozen(Backbone::Vgg16, 9)), (0, 6));
    }

    #[test]
    fn what_means_the_same_is_written_the_same() {
        for (written, canonical) in [
            ("layer3@2, layer4:0.1", "layer4@1, layer3@2"),
            ("layer4@2:0.05", "layer4@2:0.05"),
            ("stem,layer1,layer2,layer3,layer4:0.1", "all"),
            ("none", "none"),
        ] {
            assert_eq!(parse(written).canonical(Backbone::ResNet34, 0.1).to_string(), canonical);
        }
    }

    #[test]
    fn what_cannot_be_done_is_named() {
        for (text, expected) in [
            ("layer5", "has no layer group “layer5”; it has stem, layer1, layer2, layer3, layer4"),
            ("layer4,layer4@2", "layer4 is there twice"),
            ("layer4@11", "layer4: epoch 11 is outside 1 to 10"),
            ("layer4@0", "layer4: epoch 0 is outside 1 to 10"),
            ("layer4:0", "layer4: learning_rate: 0 is outside 0 (exclusive) to 100"),
            ("layer3", "layer3 learns before layer4"),
            ("layer4@3,layer3@2", "layer3 learns before layer4"),
        ] {
            let error = parse(text).check(Backbone::ResNet34, 10).unwrap_err();
            assert!(error.starts_with("unfreeze: ") && error.contains(expected), "{error}");
        }
        parse("layer4@3,layer3@3,layer2@4,layer1@4,stem@10").check(Backbone::ResNet34, 10).unwrap();
    }
}
