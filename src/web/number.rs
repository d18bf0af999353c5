//! A number that opens what it is: its definition, the counts in it, how sure it is, and the query that gives it.

use super::filters::{self as text, UNDEFINED};
use crate::{
    analysis::{McNemarMethod, interval::RESAMPLES},
    domain::{Counts, Outcome, RunId},
    report::{Difference, Figure, Figures, OutcomeQuery, PairedTest, RuleQuery},
};

/// A number on a page, with what it opens.
#[derive(Clone, Debug, Default)]
pub struct Number {
    /// Of what it opens; unique on its page.
    pub id: String,
    /// What is computed, such as “IA”.
    pub name: &'static str,
    /// Whose it is.
    pub of: String,
    /// As it is shown.
    pub value: String,
    /// Beneath it: its interval, or the spread over a group.
    pub interval: String,
    /// Nothing varied in the resamples.
    pub degenerate: bool,
    /// Resamples in which it is undefined.
    pub dropped: usize,
    /// Beneath that, of a share: the counts, as “120 / 200”.
    pub counts: Option<String>,
    /// The definition in words.
    pub meaning: &'static str,
    /// The definition as an equation, with the counts in it.
    pub equation: String,
    /// How its interval came about, or its p.
    pub certainty: String,
    /// Pages and JSON that belong to it.
    pub links: Vec<Link>,
}

/// Where something is, and what it is called.
#[derive(Clone, Debug)]
pub struct Link {
    /// The address.
    pub address: String,
    /// Its words.
    pub words: String,
}

impl Link {
    /// A link.
    pub fn new(address: impl Into<String>, words: impl Into<String>) -> Self {
        Self { address: address.into(), words: words.into() }
    }
}

/// Whose figures they are.
#[derive(Clone, Debug)]
pub struct Subject<'a> {
    /// Tells its numbers from others on the page.
    pub key: String,
    /// What it is called, such as “vgg-tiny · top-k softmax”.
    pub name: String,
    /// Its runs: one, or a group that differs in the seed alone.
    pub runs: &'a [RunId],
    /// The rule that it is looked at under, if it is not the run's own.
    pub rule: RuleQuery,
    /// Its figures.
    pub figures: Figures,
    /// Its counts; `None` for a group of several.
    pub counts: Option<Counts>,
    /// Right categories among all; `None` for a group of several.
    pub categories: Option<(u64, u64)>,
}

/// What a figure is.
struct Definition {
    meaning: &'static str,
    formula: &'static str,
    /// The outcomes in its formula.
    outcomes: &'static [Outcome],
    /// The formula with counts in it.
    worked: fn(Counts) -> String,
    /// Part and whole of a share; `None` for IF1, which is none.
    share: Option<fn(Counts) -> (u64, u64)>,
}

/// In the order of [`Figures::named`].
const DEFINITIONS: [Definition; 6] = [
    Definition {
        meaning: "right for the right reasons, of all images",
        formula: "FTCT / all",
        outcomes: &[Outcome::Ftct],
        worked: |counts| format!("{} / {}", counts.ftct, counts.total()),
        share: Some(|counts| (counts.ftct, counts.total())),
    },
    Definition {
        meaning: "right category, where the fine labels are right",
        formula: "FTCT / (FTCT + FTCF)",
        outcomes: &[Outcome::Ftct, Outcome::Ftcf],
        worked: |Counts { ftct, ftcf, .. }| format!("{ftct} / ({ftct} + {ftcf})"),
        share: Some(|counts| (counts.ftct, counts.ftct + counts.ftcf)),
    },
    Definition {
        meaning: "right fine labels, where the category is right",
        formula: "FTCT / (FTCT + FFCT)",
        outcomes: &[Outcome::Ftct, Outcome::Ffct],
        worked: |Counts { ftct, ffct, .. }| format!("{ftct} / ({ftct} + {ffct})"),
        share: Some(|counts| (counts.ftct, counts.ftct + counts.ffct)),
    },
    Definition {
        meaning: "harmonic mean of IP and IR",
        formula: "2 · IP · IR / (IP + IR)",
        outcomes: &[Outcome::Ftct, Outcome::Ftcf, Outcome::Ffct],
        worked: |Counts { ftct, ftcf, ffct, .. }| format!("2 · {ftct} / (2 · {ftct} + {ftcf} + {ffct})"),
        share: None,
    },
    Definition {
        meaning: "right category, for whatever reason",
        formula: "(FTCT + FFCT) / all",
        outcomes: &[Outcome::Ftct, Outcome::Ffct],
        worked: |counts| format!("({} + {}) / {}", counts.ftct, counts.ffct, counts.total()),
        share: Some(|counts| (counts.ftct + counts.ffct, counts.total())),
    },
    Definition {
        meaning: "all fine labels right and none too many",
        formula: "(FTCT + FTCF) / all",
        outcomes: &[Outcome::Ftct, Outcome::Ftcf],
        worked: |counts| format!("({} + {}) / {}", counts.ftct, counts.ftcf, counts.total()),
        share: Some(|counts| (counts.ftct + counts.ftcf, counts.total())),
    },
];

/// The place of coarse accuracy among them, the one figure that a coarse-only run has.
const COARSE_ACCURACY: usize = 4;

impl Subject<'_> {
    /// Its figures, in the order of [`Figures::named`].
    pub fn numbers(&self) -> Vec<Number> {
        (0..DEFINITIONS.len()).map(|index| self.number(index)).collect()
    }

    /// Its coarse accuracy.
    pub fn accuracy(&self) -> Number {
        self.number(COARSE_ACCURACY)
    }

    fn number(&self, index: usize) -> Number {
        let ((name, figure), definition) = (self.figures.named()[index], &DEFINITIONS[index]);
        let value = text::index(figure.value);
        // A coarse-only run has no outcomes: its categories alone are counted.
        let categories = self.categories.filter(|_| self.counts.is_none() && index == COARSE_ACCURACY);
        let (formula, worked) = match (self.counts, categories) {
            (Some(counts), _) => (definition.formula, format!(" = {}", (definition.worked)(counts))),
            (None, Some((right, all))) => ("right categories / all", format!(" = {right} / {all}")),
            (None, None) => (definition.formula, String::new()),
        };
        let share = self.counts.zip(definition.share).map(|(counts, share)| share(counts)).or(categories);
        Number {
            id: format!("{}-{}", slug(name), self.key),
            name,
            of: self.name.clone(),
            counts: share.map(|(part, whole)| format!("{} / {}", text::count(part), text::count(whole))),
            meaning: definition.meaning,
            equation: format!("{name} = {formula}{worked} = {}", if value == UNDEFINED { "undefined" } else { &value }),
            certainty: certainty(&figure, self.runs.len(), definition.share.is_some()),
            links: self.links(definition),
            ..Number::of(&figure, value, text::interval(&figure))
        }
    }

    fn links(&self, definition: &Definition) -> Vec<Link> {
        let RuleQuery { rule, k, threshold } = self.rule.clone();
        let json = |run: &RunId| text::address_of(&format!("/api/v1/runs/{run}/indices"), &self.rule);
        let [run] = self.runs else {
            return self.runs.iter().map(|run| Link::new(json(run), format!("run {run} as JSON"))).collect();
        };
        let images = |outcome: Option<Outcome>| {
            let query = OutcomeQuery { outcome, rule: rule.clone(), k, threshold, ..OutcomeQuery::default() };
            text::address_of(&format!("/runs/{run}/images"), &query)
        };
        let outcomes = definition.outcomes.iter().filter(|_| self.counts.is_some());
        let mut links: Vec<Link> =
            outcomes.map(|outcome| Link::new(images(Some(*outcome)), format!("{outcome} images"))).collect();
        links.push(Link::new(images(None), "all images"));
        links.push(Link::new(json(run), "as JSON"));
        links
    }
}

impl Number {
    /// What is shown of a figure.
    fn of(figure: &Figure, value: String, interval: String) -> Self {
        Self { value, interval, degenerate: figure.degenerate, dropped: figure.dropped, ..Self::default() }
    }
}

/// The figures of one run minus those of another, in the order of [`Figures::named`]. `figures` are those of the first.
pub fn differences(key: &str, of: &str, figures: &Figures, differences: &Figures, links: &[Link]) -> Vec<Number> {
    let rows = figures.named().into_iter().zip(differences.named()).zip(&DEFINITIONS);
    rows.map(|(((name, here), (_, difference)), definition)| {
        let there = here.value.zip(difference.value).map(|(here, difference)| here - difference);
        let value = text::difference(difference.value);
        let worked = match there {
            Some(there) => format!("{} − {} = {value}", text::index(here.value), text::index(Some(there))),
            None => "undefined".into(),
        };
        let mut certainty = format!(
            "95 % interval: paired percentile bootstrap, {} resamples of the images, each with what both runs decided for it.",
            text::count(RESAMPLES as u64)
        );
        certainty.push_str(&resamples(&difference));
        Number {
            id: format!("difference-{}-{key}", slug(name)),
            name,
            of: of.to_owned(),
            meaning: definition.meaning,
            equation: format!("difference of {name} = {worked}"),
            certainty: if difference.low.is_some() { certainty } else { String::new() },
            links: links.to_vec(),
            ..Number::of(&difference, value, text::difference_interval(&difference))
        }
    })
    .collect()
}

/// McNemar's p of a run against the base run, after Holm's correction for `comparisons` of them.
pub fn p_of(key: &str, of: &str, difference: &Difference, comparisons: usize, links: &[Link]) -> Number {
    let Difference { ftct: PairedTest { images, test }, p_adjusted, .. } = difference;
    let discordant = images.only_a + images.only_b;
    let method = match test.method {
        McNemarMethod::Exact => format!("exact binomial test of {} : {} images", images.only_b, images.only_a),
        McNemarMethod::ChiSquared => format!(
            "χ² = (|{} − {}| − 1)² / {discordant} = {}, one degree of freedom",
            images.only_b,
            images.only_a,
            text::number(test.statistic)
        ),
    };
    let corrected = match comparisons {
        1 => "One comparison needs no correction.".into(),
        _ => format!("{} after Holm’s correction for the {comparisons} comparisons here.", text::p_value(*p_adjusted)),
    };
    Number {
        id: format!("p-{key}"),
        name: "p",
        of: of.to_owned(),
        value: text::p_value(*p_adjusted),
        interval: format!("{} : {}", text::count(images.only_b), text::count(images.only_a)),
        meaning: "the chance of a difference of IA at least as large between runs that are equally good",
        equation: format!("{method}: p {}{}", if test.p < 0.001 { "" } else { "= " }, text::p_value(test.p)),
        certainty: format!(
            "McNemar’s test of the images on which one of the two alone is right for the right reasons: {} here, {} there. {corrected}",
            images.only_b, images.only_a
        ),
        links: links.to_vec(),
        ..Number::default()
    }
}

/// How an interval, or a spread over a group, came about.
fn certainty(figure: &Figure, runs: usize, share: bool) -> String {
    if runs > 1 {
        return format!("Mean of {runs} seeds; ± is the sample standard deviation over them.");
    }
    let method = match (figure.low, share) {
        (None, _) => return String::new(),
        (Some(_), true) => "95 % interval: Wilson’s, of a share of images.".to_owned(),
        (Some(_), false) => {
            format!("95 % interval: percentile bootstrap, {} resamples of the images.", text::count(RESAMPLES as u64))
        }
    };
    method + &resamples(figure)
}

/// What happened to the resamples of a bootstrap, where something did.
fn resamples(figure: &Figure) -> String {
    let degenerate = if figure.degenerate { " Nothing varied in them." } else { "" };
    match figure.dropped {
        0 => degenerate.to_owned(),
        dropped => format!("{degenerate} It is undefined in {}, which are left out.", text::count(dropped as u64)),
    }
}

fn slug(name: &str) -> String {
    name.to_lowercase().replace(' ', "-")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Tally;

    fn subject(counts: Counts, runs: &[RunId]) -> Subject<'_> {
        let tally = Tally { images: counts.total(), coarse_correct: counts.ftct + counts.ffct, counts: Some(counts) };
        let (key, name, rule) = ("7".into(), "vgg-tiny · top-k softmax".into(), RuleQuery::default());
        Subject { key, name, runs, rule, figures: Figures::of_run(tally), counts: Some(counts), categories: None }
    }

    #[test]
    fn a_number_opens_its_equation_with_the_counts_put_in() {
        let counts = Counts { ftct: 120, ftcf: 5, ffct: 30, ffcf: 45 };
        let numbers = subject(counts, &[RunId(7)]).numbers();
        let equations: Vec<&str> = numbers.iter().map(|number| number.equation.as_str()).collect();
        assert_eq!(
            equations,
            [
                "IA = FTCT / all = 120 / 200 = 0.600",
                "IP = FTCT / (FTCT + FTCF) = 120 / (120 + 5) = 0.960",
                "IR = FTCT / (FTCT + FFCT) = 120 / (120 + 30) = 0.800",
                "IF1 = 2 · IP · IR / (IP + IR) = 2 · 120 / (2 · 120 + 5 + 30) = 0.873",
                "Coarse accuracy = (FTCT + FFCT) / all = (120 + 30) / 200 = 0.750",
                "Fine exact match = (FTCT + FTCF) / all = (120 + 5) / 200 = 0.625",
            ]
        );
        let beneath: Vec<Option<&str>> = numbers.iter().map(|number| number.counts.as_deref()).collect();
        let shares = ["120 / 200", "120 / 125", "120 / 150", "", "150 / 200", "125 / 200"];
        assert_eq!(beneath, shares.map(|share| Some(share).filter(|share| !share.is_empty())));
        let links: Vec<&str> = numbers[2].links.iter().map(|link| link.address.as_str()).collect();
        assert_eq!(
            links,
            ["/runs/7/images?outcome=FTCT", "/runs/7/images?outcome=FFCT", "/runs/7/images", "/api/v1/runs/7/indices"]
        );
        assert!(numbers[0].certainty.contains("Wilson") && numbers[3].certainty.contains("bootstrap"));
    }

    #[test]
    fn the_shares_are_the_figures() {
        for seed in 0..200u64 {
            let count = |of: u64| (seed * 2_654_435_761 + of * 40_503) % 7 * (seed % 3);
            let counts = Counts { ftct: count(1), ftcf: count(2), ffct: count(3), ffcf: count(4) };
            let figures = Figures::of_run(Tally { images: counts.total(), coarse_correct: 0, counts: Some(counts) });
            for ((name, figure), definition) in figures.named().into_iter().zip(&DEFINITIONS) {
                let Some((part, whole)) = definition.share.map(|share| share(counts)) else { continue };
                if name != "Coarse accuracy" {
                    assert_eq!(figure.value, crate::domain::ratio(part, whole), "{name} of {counts:?}");
                }
            }
        }
    }

    #[test]
    fn what_is_undefined_says_so_and_a_group_has_no_counts() {
        let nothing = subject(Counts { ftct: 0, ftcf: 0, ffct: 0, ffcf: 3 }, &[RunId(7)]).numbers();
        assert_eq!(nothing[1].equation, "IP = FTCT / (FTCT + FTCF) = 0 / (0 + 0) = undefined");
        assert_eq!((nothing[1].value.as_str(), nothing[1].certainty.as_str()), ("–", ""));
        let runs = [RunId(7), RunId(8)];
        let group = Subject { counts: None, ..subject(Counts { ftct: 1, ftcf: 0, ffct: 0, ffcf: 3 }, &runs) }.numbers();
        assert_eq!(group[0].equation, "IA = FTCT / all = 0.250");
        assert_eq!((group[0].counts.as_deref(), group[0].links[1].words.as_str()), (None, "run 8 as JSON"));
        assert!(group[0].certainty.starts_with("Mean of 2 seeds"));
        let figures = Figures { coarse_accuracy: Figure::proportion(3, 4), ..Figures::default() };
        let coarse_only = subject(Counts::default(), &[RunId(7)]);
        let coarse_only = Subject { counts: None, categories: Some((3, 4)), figures, ..coarse_only };
        assert_eq!(coarse_only.accuracy().equation, "Coarse accuracy = right categories / all = 3 / 4 = 0.750");
        assert_eq!(coarse_only.numbers()[0].equation, "IA = FTCT / all = undefined");
    }

    #[test]
    fn a_difference_shows_both_sides() {
        let figure = |value| Figure { value: Some(value), ..Figure::default() };
        let here = Figures { ia: figure(0.6), ..Figures::default() };
        let minus = Figures { ia: Figure { low: Some(0.01), high: Some(0.05), ..figure(0.03) }, ..Figures::default() };
        let numbers = differences("7", "run 7", &here, &minus, &[]);
        assert_eq!(numbers[0].equation, "difference of IA = 0.600 − 0.570 = +0.030");
        assert_eq!(numbers[0].interval, "[+0.010, +0.050]");
        assert_eq!(numbers[1].equation, "difference of IP = undefined");
    }
}
