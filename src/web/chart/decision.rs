//! Charts of the decision explorer: the indices over every threshold and every k, with the rule in force marked.

use plotly::{
    Scatter, Trace,
    common::{DashType, Line, Marker, MarkerSymbol, Mode},
    layout::{AxisType, HoverMode, Shape, ShapeLine, ShapeType},
};

use super::{Chart, LineStyle, axis, layout};
use crate::{
    domain::{DecisionRule, Indices, TopK},
    report::{DecisionReport, RuleStep},
};

/// The category of the oracle among the values of k.
const ORACLE: &str = "oracle";

type Index = (&'static str, fn(&Indices) -> Option<f64>);

const INDICES: [Index; 4] = [
    ("IA", |indices| indices.ia),
    ("IP", |indices| indices.ip),
    ("IR", |indices| indices.ir),
    ("IF1", |indices| indices.if1),
];

/// The indices over θ.
pub fn over_thresholds(report: &DecisionReport) -> Chart {
    let thresholds: Vec<f64> = report.thresholds.iter().filter_map(|step| threshold(&step.rule)).collect();
    let line = |(index, (name, of)): (usize, Index)| -> Box<dyn Trace> {
        let style = LineStyle::of(index);
        Scatter::new(thresholds.clone(), values(&report.thresholds, of))
            .name(name)
            .mode(Mode::Lines)
            .line(Line::new().color(style.colour).width(2.0).dash(style.dash))
            .hover_template("%{y:.3f}")
    };
    let marks = marks(threshold(&report.own_rule), threshold(&report.rule));
    let layout = layout()
        .hover_mode(HoverMode::XUnified)
        .shapes(marks)
        .x_axis(axis().title("threshold θ").range(vec![0.0, 1.0]).dtick(0.1))
        .y_axis(axis().range(vec![0.0, 1.04]).dtick(0.2).grid_color("var(--line)"));
    Chart::new(INDICES.into_iter().enumerate().map(line).collect(), layout, "twograin-thresholds")
}

/// The indices over k, and with the oracle's.
pub fn over_k(report: &DecisionReport) -> Chart {
    let ks: Vec<String> = (1..=report.ks.len()).map(|k| k.to_string()).collect();
    let mut traces: Vec<Box<dyn Trace>> = Vec::new();
    for (index, (name, of)) in INDICES.into_iter().enumerate() {
        let style = LineStyle::of(index);
        let marker = || Marker::new().color(style.colour.clone()).size(7);
        let line = Scatter::new(ks.clone(), values(&report.ks, of))
            .name(name)
            .legend_group(name)
            .mode(Mode::LinesMarkers)
            .marker(marker().symbol(style.symbol.clone()))
            .line(Line::new().color(style.colour.clone()).width(2.0).dash(style.dash.clone()))
            .hover_template("%{y:.3f}");
        let oracle = Scatter::new(vec![ORACLE.to_owned()], vec![of(&report.oracle.indices)])
            .name(name)
            .legend_group(name)
            .show_legend(false)
            .mode(Mode::Markers)
            .marker(marker().symbol(MarkerSymbol::DiamondOpen).size(10))
            .hover_template("%{y:.3f}");
        traces.push(line);
        traces.push(oracle);
    }
    // A category stands where its index says.
    let place = |rule: &DecisionRule| match rule {
        DecisionRule::TopK { k: TopK::Oracle } => Some(ks.len() as f64),
        DecisionRule::TopK { k: TopK::Fixed(k) } => {
            Some(f64::from(k.get()) - 1.0).filter(|place| *place < ks.len() as f64)
        }
        DecisionRule::Threshold { .. } | DecisionRule::PerLabel { .. } => None,
    };
    let marks = marks(place(&report.own_rule), place(&report.rule));
    let layout = layout()
        .hover_mode(HoverMode::XUnified)
        .shapes(marks)
        .x_axis(axis().title("labels taken, k").type_(AxisType::Category))
        .y_axis(axis().range(vec![0.0, 1.04]).dtick(0.2).grid_color("var(--line)"));
    Chart::new(traces, layout, "twograin-k")
}

fn values(steps: &[RuleStep], of: fn(&Indices) -> Option<f64>) -> Vec<Option<f64>> {
    steps.iter().map(|step| of(&step.indices)).collect()
}

fn threshold(rule: &DecisionRule) -> Option<f64> {
    match rule {
        DecisionRule::Threshold { threshold } => Some(threshold.get()),
        DecisionRule::TopK { .. } | DecisionRule::PerLabel { .. } => None,
    }
}

/// Upright lines: dotted where the run's own rule is, solid where the rule in force is.
fn marks(own: Option<f64>, in_force: Option<f64>) -> Vec<Shape> {
    let mark = |at: Option<f64>, width: f64, dash: DashType| {
        let line = ShapeLine::new().color("var(--ink)").width(width).dash(dash);
        at.map(|at| {
            Shape::new().shape_type(ShapeType::Line).x_ref("x").y_ref("paper").x0(at).x1(at).y0(0.0).y1(1.0).line(line)
        })
    };
    [mark(own, 1.5, DashType::Dot), mark(in_force, 2.0, DashType::Solid)].into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_force_is_marked_where_it_stands() {
        let marks = serde_json::to_value(marks(Some(0.7), Some(0.25))).unwrap();
        assert_eq!((&marks[0]["x0"], &marks[0]["line"]["dash"]), (&0.7.into(), &"dot".into()));
        assert_eq!((&marks[1]["x0"], &marks[1]["line"]["dash"]), (&0.25.into(), &"solid".into()));
        assert!(super::marks(None, None).is_empty());
    }
}
