//! A number that opens what it is: its definition, the counts in it, how sure it is, and the query that gives it.

use super::definition::{self, Definition};
use crate::{
    analysis::{McNemarMethod, interval::RESAMPLES},
    domain::{Counts, Outcome, RunId},
    report::{Difference, Figure, Figures, OutcomeQuery, PairedTest, RuleQuery},
    web::filters::{self as text, UNDEFINED},
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

impl Subject<'_> {
    /// Its figures, in the order of [`Figures::named`].
    pub fn numbers(&self) -> Vec<Number> {
        let definitions = definition::of(self.counts.unwrap_or_default(), &self.figures);
        let mut numbers: Vec<Number> = definitions.into_iter().map(|definition| self.number(definition)).collect();
        if let (None, Some(_)) = (self.counts, self.categories) {
            let accuracy = self.accuracy();
            numbers.iter_mut().filter(|number| number.id == accuracy.id).for_each(|number| *number = accuracy.clone());
        }
        numbers
    }

    /// The coarse accuracy of a coarse-only run, whose categories alone are counted: it has no outcomes.
    pub fn accuracy(&self) -> Number {
        self.number(Definition {
            name: "Coarse accuracy",
            meaning: "right category, for whatever reason",
            formula: "right categories / all",
            worked: self.categories.map_or_else(String::new, |(right, all)| format!("{right} / {all}")),
            interval: definition::WILSON,
            figure: self.figures.coarse_accuracy,
            outcomes: &[],
            share: self.categories,
        })
    }

    fn number(&self, of: Definition) -> Number {
        let value = text::index(of.figure.value);
        let counted = self.counts.is_some() || self.categories.is_some() && of.outcomes.is_empty();
        let worked = if counted { format!(" = {}", of.worked) } else { String::new() };
        let share = of.share.filter(|_| counted);
        Number {
            id: format!("{}-{}", slug(of.name), self.key),
            name: of.name,
            of: self.name.clone(),
            interval: text::interval(&of.figure),
            counts: share.map(|(part, whole)| format!("{} / {}", text::count(part), text::count(whole))),
            meaning: of.meaning,
            equation: format!("{} = {}{worked} = {}", of.name, of.formula, or_undefined(&value)),
            certainty: certainty(&of.figure, self.runs.len(), of.interval),
            links: self.links(of.outcomes),
            ..Number::of(&of.figure, value)
        }
    }

    fn links(&self, outcomes: &[Outcome]) -> Vec<Link> {
        let RuleQuery { rule, k, threshold } = self.rule.clone();
        let json = |run: &RunId| text::address_of(&format!("/api/v1/runs/{run}/indices"), &self.rule);
        let [run] = self.runs else {
            return self.runs.iter().map(|run| Link::new(json(run), format!("run {run} as JSON"))).collect();
        };
        let images = |outcome: Option<Outcome>| {
            let query = OutcomeQuery { outcome, rule: rule.clone(), k, threshold, ..OutcomeQuery::default() };
            text::address_of(&format!("/runs/{run}/images"), &query)
        };
        let outcomes = outcomes.iter().filter(|_| self.counts.is_some());
        let mut links: Vec<Link> =
            outcomes.map(|outcome| Link::new(images(Some(*outcome)), format!("{outcome} images"))).collect();
        links.push(Link::new(images(None), "all images"));
        links.push(Link::new(json(run), "as JSON"));
        links
    }
}

impl Number {
    /// What is shown of a figure.
    fn of(figure: &Figure, value: String) -> Self {
        Self { value, degenerate: figure.degenerate, dropped: figure.dropped, ..Self::default() }
    }
}

/// The figures of one run minus those of another, in the order of [`Figures::named`]. `figures` are those of the first.
pub fn differences(key: &str, of: &str, figures: &Figures, differences: &Figures, links: &[Link]) -> Vec<Number> {
    // What they are in words is the same without counts.
    let rows = definition::of(Counts::default(), figures).into_iter().zip(differences.named());
    rows.map(|(Definition { name, meaning, figure: here, .. }, (_, difference))| {
        let there = here.value.zip(difference.value).map(|(here, difference)| here - difference);
        let value = text::difference(difference.value);
        let worked = match there {
            Some(there) => format!("{} − {} = {value}", text::index(here.value), text::index(Some(there))),
            None => "undefined".into(),
        };
        let mut certainty = format!(
            "95% interval: paired percentile bootstrap, {} resamples of the images, each with what both runs decided for it.",
            text::count(RESAMPLES as u64)
        );
        certainty.push_str(&resamples(&difference));
        Number {
            id: format!("difference-{}-{key}", slug(name)),
            name,
            of: of.to_owned(),
            meaning,
            equation: format!("difference of {name} = {worked}"),
            certainty: if difference.low.is_some() { certainty } else { String::new() },
            links: links.to_vec(),
            interval: text::difference_interval(&difference),
            ..Number::of(&difference, value)
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
fn certainty(figure: &Figure, runs: usize, method: &str) -> String {
    if runs > 1 {
        return format!("Mean of {runs} seeds; ± is the sample standard deviation over them.");
    }
    if figure.low.is_none() {
        return String::new();
    }
    method.to_owned() + &resamples(figure)
}

/// What happened to the resamples of a bootstrap, where something did.
fn resamples(figure: &Figure) -> String {
    let degenerate = if figure.degenerate { " Nothing varied in them." } else { "" };
    match figure.dropped {
        0 => degenerate.to_owned(),
        dropped => format!("{degenerate} It is undefined in {}, which are left out.", text::count(dropped as u64)),
    }
}

fn or_undefined(value: &str) -> &str {
    if value == UNDEFINED { "undefined" } else { value }
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
        assert_eq!(coarse_only.numbers()[4].counts.as_deref(), Some("3 / 4"));
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
