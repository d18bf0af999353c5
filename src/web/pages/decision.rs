//! `/runs/{id}/decision`: a run under any decision rule.

use askama::Template;
use axum::extract::State;

use super::Page;
use crate::{
    domain::{DecisionRule, ImageId, Outcome, RunId, TopK, spec::Objective},
    report::{DecisionQuery, DecisionReport, Figure, OutcomeQuery, Reports, RuleQuery, RuleStep},
    web::{
        chart::{self, Chart},
        error::Problem,
        extract::{Path, Query},
        filters::{self as text, as_filters as filters},
    },
};

#[derive(Template)]
#[template(path = "runs/decision.html")]
pub struct DecisionPage {
    query: DecisionQuery,
    report: DecisionReport,
    over_thresholds: Chart,
    over_k: Chart,
}

pub async fn show(
    State(reports): State<Reports>,
    Path(run): Path<RunId>,
    Query(query): Query<DecisionQuery>,
) -> Result<Page<DecisionPage>, Problem> {
    let report = reports.decision(run, &query).await?;
    let (over_thresholds, over_k) = (chart::over_thresholds(&report), chart::over_k(&report));
    Ok(Page(DecisionPage { over_thresholds, over_k, query, report }))
}

/// One line of the table of figures.
struct FigureRow {
    name: &'static str,
    now: Figure,
    own: Figure,
    /// `None` under the run's own rule.
    difference: Option<Figure>,
}

/// A rule that is offered, and whether it is in force.
struct Offer {
    words: String,
    address: String,
    in_force: bool,
}

/// What tuned thresholds make of one figure.
struct Gain {
    name: &'static str,
    before: Figure,
    after: Figure,
    difference: Figure,
}

impl DecisionPage {
    fn section(&self) -> &'static str {
        "runs"
    }

    fn path(&self) -> String {
        format!("/runs/{}/decision", self.report.run.id)
    }

    fn json(&self) -> String {
        text::address_of(&format!("/api/v1{}", self.path()), &self.query)
    }

    fn is_softmax(&self) -> bool {
        self.report.run.objective == Objective::TopKSoftmax
    }

    fn is_oracle(&self) -> bool {
        self.report.rule == DecisionRule::TopK { k: TopK::Oracle }
    }

    fn is_tuned(&self) -> bool {
        matches!(self.report.rule, DecisionRule::PerLabel { .. })
    }

    /// Where the slider of θ stands.
    fn threshold(&self) -> f64 {
        match &self.report.rule {
            DecisionRule::Threshold { threshold } => threshold.get(),
            DecisionRule::TopK { .. } | DecisionRule::PerLabel { .. } => self.report.own_threshold.get(),
        }
    }

    /// Where the slider of k stands.
    fn k(&self) -> usize {
        match &self.report.rule {
            DecisionRule::TopK { k: TopK::Fixed(k) } => k.get().into(),
            DecisionRule::TopK { k: TopK::Oracle } | DecisionRule::Threshold { .. } | DecisionRule::PerLabel { .. } => {
                1
            }
        }
    }

    fn largest_k(&self) -> usize {
        self.report.ks.len().max(self.k())
    }

    /// Rules that no slider leads to.
    fn offers(&self) -> Vec<Offer> {
        let named = |rule: &str| RuleQuery { rule: Some(rule.into()), ..RuleQuery::default() };
        let at = |threshold: f64| RuleQuery { threshold: Some(threshold), ..named("threshold") };
        let report = &self.report;
        let offer = |words: String, query: RuleQuery, in_force: bool| Offer {
            words,
            address: self.address(query, self.query.outcome),
            in_force,
        };
        let best = [("IA", report.best.ia), ("IF1", report.best.if1)].into_iter().filter_map(|(index, best)| {
            let threshold = best?.threshold;
            let in_force = report.rule == DecisionRule::Threshold { threshold };
            Some(offer(format!("θ = {}, best {index} on validation", threshold.get()), at(threshold.get()), in_force))
        });
        let own = offer("the run’s own rule".into(), RuleQuery::default(), report.rule == report.own_rule);
        let oracle = offer("oracle: k = the true number of labels".into(), named("top-k"), self.is_oracle());
        let tuned = offer("tuned: a threshold for each label".into(), named("tuned"), self.is_tuned());
        [own, oracle, tuned].into_iter().chain(best).collect()
    }

    /// Those that are tabulated over k.
    fn ks(&self) -> Vec<RuleStep> {
        self.report.ks.iter().chain([&self.report.oracle]).cloned().collect()
    }

    fn step(&self, step: &RuleStep) -> String {
        let query = match &step.rule {
            DecisionRule::Threshold { threshold } => {
                RuleQuery { rule: Some("threshold".into()), threshold: Some(threshold.get()), k: None }
            }
            DecisionRule::TopK { k } => {
                let k = Option::<std::num::NonZeroU16>::from(*k).map(std::num::NonZeroU16::get);
                RuleQuery { rule: Some("top-k".into()), k, threshold: None }
            }
            DecisionRule::PerLabel { .. } => RuleQuery { rule: Some("tuned".into()), ..RuleQuery::default() },
        };
        self.address(query, self.query.outcome)
    }

    /// What a step is called in its table.
    fn step_name(&self, step: &RuleStep) -> String {
        match &step.rule {
            DecisionRule::Threshold { threshold } => format!("{:.2}", threshold.get()),
            DecisionRule::TopK { k: TopK::Fixed(k) } => k.to_string(),
            DecisionRule::TopK { k: TopK::Oracle } => "oracle".into(),
            DecisionRule::PerLabel { .. } => "tuned".into(),
        }
    }

    fn shows(&self, outcome: &Outcome) -> bool {
        self.report.outcome == *outcome
    }

    fn tab(&self, outcome: &Outcome) -> String {
        format!("{}#images", self.address((&self.query).into(), Some(*outcome)))
    }

    fn address(&self, rule: RuleQuery, outcome: Option<Outcome>) -> String {
        let RuleQuery { rule, k, threshold } = rule;
        text::address_of(&self.path(), &DecisionQuery { outcome, rule, k, threshold })
    }

    /// The run held against itself, its own rule against the one in force.
    fn transitions(&self) -> String {
        let (run, RuleQuery { rule, k, threshold }) = (self.report.run.id.to_string(), (&self.query).into());
        let (k, threshold) = (k.map(|k| k.to_string()), threshold.map(|threshold| threshold.to_string()));
        let query = [
            ("a", Some(run.as_str())),
            ("b", Some(run.as_str())),
            ("rule_b", rule.as_deref()),
            ("k_b", k.as_deref()),
            ("threshold_b", threshold.as_deref()),
        ];
        text::address("/transitions", &query)
    }

    fn gallery(&self) -> String {
        text::address_of(&format!("/runs/{}/images", self.report.run.id), &self.listing())
    }

    /// One image, with its neighbours among those of its outcome.
    fn image(&self, image: &ImageId) -> String {
        text::address_of(&format!("/runs/{}/images/{image}", self.report.run.id), &self.listing())
    }

    fn listing(&self) -> OutcomeQuery {
        let RuleQuery { rule, k, threshold } = (&self.query).into();
        OutcomeQuery { outcome: Some(self.report.outcome), rule, k, threshold, ..OutcomeQuery::default() }
    }

    fn figures(&self) -> Vec<FigureRow> {
        let (now, own) = (self.report.results.figures.named(), self.report.own.figures.named());
        let differences = self.report.against_own.map(|against| against.differences.named().map(|(_, figure)| figure));
        let mut differences = differences.into_iter().flatten();
        let rows = now.into_iter().zip(own);
        rows.map(|((name, now), (_, own))| FigureRow { name, now, own, difference: differences.next() }).collect()
    }

    fn gains(&self) -> Vec<Gain> {
        let tuning = &self.report.tuning;
        let figures = tuning.before.named().into_iter().zip(tuning.after.named()).zip(tuning.differences.named());
        let gain = |(((name, before), (_, after)), (_, difference))| Gain { name, before, after, difference };
        let macro_f1 = &tuning.macro_f1;
        let macro_f1 = Gain {
            name: "Macro F1 of labels",
            before: macro_f1.before,
            after: macro_f1.after,
            difference: macro_f1.difference,
        };
        // A rule about fine labels changes no category.
        figures.map(gain).filter(|gain| gain.name != "Coarse accuracy").chain([macro_f1]).collect()
    }
}
