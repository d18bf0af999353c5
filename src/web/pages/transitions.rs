//! `/transitions?a=ID&b=ID`: two runs on the same test images.

use askama::Template;
use axum::extract::State;

use super::{
    Page,
    number::{self, Link, Number, Subject},
};
use crate::{
    analysis::McNemarMethod,
    domain::Outcome,
    report::{
        ComparedRun, OutcomeQuery, PairedTest, Reports, RuleQuery, RunBrief, TransitionsQuery, TransitionsReport,
    },
    web::{
        chart::{self, Chart},
        error::Problem,
        extract::Query,
        filters::{self as text, as_filters as filters},
    },
};

#[derive(Template)]
#[template(path = "runs/transitions.html")]
pub struct TransitionsPage {
    query: TransitionsQuery,
    report: TransitionsReport,
    /// Runs on the same test images.
    choices: Vec<RunBrief>,
    chart: Chart,
}

pub async fn show(
    State(reports): State<Reports>,
    Query(query): Query<TransitionsQuery>,
) -> Result<Page<TransitionsPage>, Problem> {
    let report = reports.transitions(&query).await?;
    let choices = reports.choices(&report.a.run, &[query.a, query.b]).await?;
    Ok(Page(TransitionsPage { chart: chart::differences(&report), query, report, choices }))
}

/// One line of the table of figures.
struct FigureRow {
    a: Number,
    b: Number,
    difference: Number,
}

/// One line of the table of tests.
struct TestRow {
    name: &'static str,
    tests: &'static str,
    test: PairedTest,
}

/// One line of the table of outcomes: an outcome under A.
struct OutcomeRow {
    outcome: Outcome,
    images: u64,
    cells: Vec<Cell>,
}

/// An outcome under B of such images.
struct Cell {
    outcome: Outcome,
    images: u64,
    /// Where they can be seen.
    address: Option<String>,
}

impl TransitionsPage {
    fn section(&self) -> &'static str {
        "runs"
    }

    /// What is asked for one side alone: nothing where both follow the same.
    fn own_rule(&self, rule: &RuleQuery) -> RuleQuery {
        let TransitionsQuery { rule: common, k, threshold, .. } = self.query.clone();
        if *rule == (RuleQuery { rule: common, k, threshold }) { RuleQuery::default() } else { rule.clone() }
    }

    fn figures(&self) -> Vec<FigureRow> {
        let [rule_a, rule_b] = self.query.rules();
        let (a, b) = (subject("a", &self.report.a, rule_a), subject("b", &self.report.b, rule_b));
        let links = [Link::new(self.json(), "as JSON")];
        let differences = number::differences("b", "B minus A", &b.figures, &self.report.differences, &links);
        let rows = a.numbers().into_iter().zip(b.numbers()).zip(differences);
        rows.map(|((a, b), difference)| FigureRow { a, b, difference }).collect()
    }

    fn tests(&self) -> Vec<TestRow> {
        let ftct = self.report.ftct.map(|test| TestRow { name: "FTCT", tests: "whether IA differs", test });
        let (name, tests) = ("Category right", "whether coarse accuracy differs");
        ftct.into_iter().chain([TestRow { name, tests, test: self.report.category }]).collect()
    }

    fn method(&self, test: &PairedTest) -> String {
        match test.test.method {
            McNemarMethod::Exact => "exact binomial".into(),
            McNemarMethod::ChiSquared => format!("χ² = {}", text::number(test.test.statistic)),
        }
    }

    fn rows(&self, outcomes: &[[u64; 4]; 4]) -> Vec<OutcomeRow> {
        let row = |(a, row): (Outcome, &[u64; 4])| OutcomeRow {
            outcome: a,
            images: row.iter().sum(),
            cells: Outcome::ALL
                .into_iter()
                .zip(row)
                .map(|(b, &images)| Cell { outcome: b, images, address: (images > 0).then(|| self.gallery(a, b)) })
                .collect(),
        };
        Outcome::ALL.into_iter().zip(outcomes).map(row).collect()
    }

    /// B's images of one outcome that had another under A.
    fn gallery(&self, a: Outcome, b: Outcome) -> String {
        let (run_a, run_b) = (&self.report.a.run, &self.report.b.run);
        let [rule_a, rule_b] = self.query.rules();
        let query = OutcomeQuery {
            outcome: Some(b),
            rule: rule_b.rule,
            k: rule_b.k,
            threshold: rule_b.threshold,
            other: Some(run_a.id),
            other_outcome: Some(a),
            other_rule: rule_a.rule,
            other_k: rule_a.k,
            other_threshold: rule_a.threshold,
            ..OutcomeQuery::default()
        };
        text::address_of(&format!("/runs/{}/images", run_b.id), &query)
    }

    fn swapped(&self) -> String {
        let TransitionsQuery { a, b, rule, k, threshold, rule_a, k_a, threshold_a, rule_b, k_b, threshold_b } =
            self.query.clone();
        let swapped = TransitionsQuery {
            a: b,
            b: a,
            rule,
            k,
            threshold,
            rule_a: rule_b,
            k_a: k_b,
            threshold_a: threshold_b,
            rule_b: rule_a,
            k_b: k_a,
            threshold_b: threshold_a,
        };
        text::address_of("/transitions", &swapped)
    }

    fn json(&self) -> String {
        text::address_of("/api/v1/transitions", &self.query)
    }
}

fn subject<'a>(key: &str, side: &'a ComparedRun, rule: RuleQuery) -> Subject<'a> {
    let ComparedRun { run, results } = side;
    Subject {
        key: key.to_owned(),
        name: format!("{}, run {}: {}", key.to_uppercase(), run.id, run.name),
        runs: std::slice::from_ref(&run.id),
        rule,
        figures: results.figures,
        counts: results.counts,
        categories: Some((results.coarse_correct, results.test_images)),
    }
}
