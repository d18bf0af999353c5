//! Charts of fine labels and categories.

use plotly::{
    Scatter, Trace,
    common::{DashType, HoverInfo, Line, LineShape, Marker, MarkerSymbol, Mode},
    layout::HoverMode,
};

use super::{Chart, axis, dots, error_bars, layout};
use crate::{
    report::{CalibrationReport, ClassFigures, Figure, LabelFigures, PrecisionRecall},
    web::filters,
};

/// Average precision of each label that has one, in the order given.
pub fn labels(labels: &[LabelFigures]) -> Chart {
    let rows = labels.iter().map(|label| (label.name.as_str(), label.figures.average_precision));
    let rows = rows.filter(|(_, figure)| figure.value.is_some()).collect();
    dots(rows, axis().title("average precision").range(vec![-0.01, 1.01]), 20, "twograin-labels")
}

/// Precision over recall, with the point of what the run says, and what a ranking by chance would have.
pub fn precision_recall(curve: Option<&PrecisionRecall>, figures: &ClassFigures, images: u64) -> Chart {
    let Some(curve) = curve else { return Chart::nothing() };
    let thresholds = curve.drawn.iter().map(|point| match point.threshold {
        Some(threshold) => format!("p ≥ {threshold:.4}"),
        None => "nothing taken".into(),
    });
    let column = |of: fn(&crate::analysis::PrPoint) -> f64| curve.drawn.iter().map(of).collect::<Vec<_>>();
    // From one recall to the next a step has the precision of its end, so the area beneath is the average precision.
    let line = Scatter::new(column(|point| point.recall), column(|point| point.precision))
        .name("every threshold")
        .mode(Mode::Lines)
        .text_array(thresholds.collect())
        .line(Line::new().color("var(--series-1)").width(2.0).shape(LineShape::Vh))
        .hover_template("%{text}: recall %{x:.3f}, precision %{y:.3f}<extra></extra>");
    let share = figures.support as f64 / images.max(1) as f64;
    let chance = straight([0.0, 1.0], [share, share], "ranked by chance");
    let mut traces: Vec<Box<dyn Trace>> = vec![line, chance];
    if let (Some(recall), Some(precision)) = (figures.recall.value, figures.precision.value) {
        let said = Scatter::new(vec![recall], vec![precision])
            .name("what the run says")
            .mode(Mode::Markers)
            .marker(Marker::new().color("var(--series-2)").size(13).symbol(MarkerSymbol::Diamond))
            .hover_template("recall %{x:.3f}, precision %{y:.3f}");
        traces.push(said);
    }
    let axis = |title: &str| axis().title(title).range(vec![-0.02, 1.02]).grid_color("var(--line)");
    let layout = layout().hover_mode(HoverMode::Closest).x_axis(axis("recall")).y_axis(axis("precision"));
    Chart::new(traces, layout, "twograin-precision-recall")
}

/// The share that is true over the mean probability, bin by bin.
pub fn reliability(calibration: &CalibrationReport) -> Chart {
    let bins: Vec<_> = calibration.bins.iter().filter(|bin| bin.images > 0).collect();
    if bins.is_empty() {
        return Chart::nothing();
    }
    let frequencies: Vec<Figure> = bins.iter().map(|bin| bin.frequency).collect();
    let points = Scatter::new(
        bins.iter().map(|bin| bin.confidence).collect(),
        frequencies.iter().map(|frequency| frequency.value).collect(),
    )
    .name("share that is true")
    .mode(Mode::Markers)
    .text_array(bins.iter().map(|bin| format!("{} images", filters::count(bin.images))).collect())
    .marker(Marker::new().color("var(--series-1)").size(9))
    .error_y(error_bars(&frequencies))
    .hover_template("%{text}: mean probability %{x:.3f}, true for %{y:.3f}<extra></extra>");
    let even = straight([0.0, 1.0], [0.0, 1.0], "as it should be");
    let axis = |title: &str| axis().title(title).range(vec![-0.02, 1.02]).grid_color("var(--line)");
    let layout =
        layout().hover_mode(HoverMode::Closest).x_axis(axis("mean probability")).y_axis(axis("share that is true"));
    Chart::new(vec![points, even], layout, "twograin-reliability")
}

/// What a line or points are held against.
fn straight(x: [f64; 2], y: [f64; 2], name: &str) -> Box<dyn Trace> {
    Scatter::new(x.to_vec(), y.to_vec())
        .name(name)
        .mode(Mode::Lines)
        .line(Line::new().color("var(--strong-line)").width(1.5).dash(DashType::Dot))
        .hover_info(HoverInfo::Skip)
}
