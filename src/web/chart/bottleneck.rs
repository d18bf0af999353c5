//! Charts of a run's bottleneck: curves of intervention with bands, and the head's weights as a heat map.

use plotly::{
    HeatMap, Scatter, Trace,
    common::{
        Anchor, AxisSide, ColorBar, ColorScale, ColorScaleElement, Fill, HoverInfo, Line, Marker, Mode, Orientation,
    },
    layout::{AxisType, HoverMode, Shape, ShapeLine, ShapeType},
};

use super::{Chart, LineStyle, axis, layout};
use crate::report::{Figure, HeadWeights, InterventionReport};

/// One line for each order, in a band of its intervals.
pub fn interventions(report: &InterventionReport) -> Chart {
    let curves = [
        ("groups in random order", Some(&report.random)),
        ("largest error first", Some(&report.largest_error)),
        ("most uncertain first", report.most_uncertain.as_ref()),
    ];
    let curves: Vec<_> = curves.into_iter().filter_map(|(name, figures)| Some((name, figures?))).collect();
    let mut traces: Vec<Box<dyn Trace>> = Vec::new();
    traces.extend(curves.iter().enumerate().map(|(index, (_, figures))| band(index, figures) as Box<dyn Trace>));
    traces
        .extend(curves.iter().enumerate().map(|(index, (name, figures))| line(index, name, figures) as Box<dyn Trace>));
    let groups = report.groups.len();
    let layout = layout()
        .hover_mode(HoverMode::XUnified)
        .x_axis(axis().title("groups of labels put right").dtick((groups as f64 / 16.0).ceil()))
        .y_axis(axis().title("coarse accuracy").grid_color("var(--line)"));
    Chart::new(traces, layout, "twograin-interventions")
}

fn line(index: usize, name: &str, figures: &[Figure]) -> Box<Scatter<usize, Option<f64>>> {
    let style = LineStyle::of(index);
    Scatter::new((0..figures.len()).collect(), figures.iter().map(|figure| figure.value).collect())
        .name(name)
        .mode(Mode::LinesMarkers)
        .marker(Marker::new().color(style.colour.clone()).size(7).symbol(style.symbol))
        .line(Line::new().color(style.colour).width(2.0).dash(style.dash))
        .hover_template("%{y:.3f}")
}

/// Along the upper ends and back along the lower ones.
fn band(index: usize, figures: &[Figure]) -> Box<Scatter<usize, Option<f64>>> {
    let there = figures.iter().map(|figure| figure.high).enumerate();
    let back = figures.iter().map(|figure| figure.low).enumerate().rev();
    let (x, y) = there.chain(back).unzip();
    Scatter::new(x, y)
        .mode(Mode::Lines)
        .line(Line::new().width(0.0))
        .fill(Fill::ToSelf)
        .fill_color(format!("var(--band-{})", index + 1))
        .hover_info(HoverInfo::Skip)
        .show_legend(false)
}

/// Labels × categories. Blue speaks for a category, amber against it; frames hold a category's own labels.
pub fn weights(head: &HeadWeights) -> Chart {
    let largest = head.labels.iter().flat_map(|label| &label.weights).fold(0f32, |most, weight| most.max(weight.abs()));
    let largest = f64::from(largest).max(f64::MIN_POSITIVE);
    let scale = [(0.0, "var(--series-2)"), (0.5, "var(--panel)"), (1.0, "var(--series-1)")];
    let scale = scale.map(|(at, colour)| ColorScaleElement(at, colour.into())).to_vec();
    // Plotly draws from the bottom up.
    let labels = || head.labels.iter().rev();
    let names: Vec<String> = labels().map(|label| label.name.clone()).collect();
    let bar = ColorBar::new()
        .orientation(Orientation::Horizontal)
        .thickness(12)
        .outline_width(0)
        .y(0.0)
        .y_anchor(Anchor::Top)
        .title("weight");
    let trace = HeatMap::new(head.categories.clone(), names, labels().map(|label| label.weights.clone()).collect())
        .color_scale(ColorScale::Vector(scale))
        .zmin(-largest)
        .zmax(largest)
        .color_bar(bar)
        .hover_template("%{y} for %{x}: %{z:.2f}<extra></extra>");
    let layout = layout()
        .height(190 + 17 * head.labels.len())
        .shapes(frames(head))
        .x_axis(axis().type_(AxisType::Category).side(AxisSide::Top).tick_angle(-45.0))
        .y_axis(axis().type_(AxisType::Category).dtick(1.0));
    Chart::new(vec![trace], layout, "twograin-weights")
}

/// A frame around each category's own labels.
fn frames(head: &HeadWeights) -> Vec<Shape> {
    let frame = |(column, category): (usize, &String)| {
        let is_own = |label: &crate::report::LabelWeights| label.category.as_ref() == Some(category);
        let first = head.labels.iter().position(is_own)?;
        let own = head.labels.iter().filter(|label| is_own(label)).count();
        let (left, top) = (column as f64 - 0.5, (head.labels.len() - first) as f64 - 0.5);
        Some(
            Shape::new()
                .shape_type(ShapeType::Rect)
                .x_ref("x")
                .y_ref("y")
                .x0(left)
                .x1(left + 1.0)
                .y0(top - own as f64)
                .y1(top)
                .line(ShapeLine::new().color("var(--ink)").width(1.5)),
        )
    };
    head.categories.iter().enumerate().filter_map(frame).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::LabelWeights;

    #[test]
    fn frames_hold_a_categorys_own_labels() {
        let label = |name: &str, category: Option<&str>| LabelWeights {
            name: name.into(),
            category: category.map(str::to_owned),
            largest: "a".into(),
            weights: vec![1.0, -2.0],
        };
        let head = HeadWeights {
            categories: vec!["a".into(), "b".into()],
            labels: vec![label("x", Some("a")), label("y", Some("b")), label("z", Some("b")), label("p", None)],
            by_category: Vec::new(),
            with_category: 3,
            own_largest: 1,
        };
        // From the top: x is in row 3, y and z in rows 2 and 1, the public label in row 0.
        let found = serde_json::to_value(frames(&head)).unwrap();
        let corners = |index: usize| ["x0", "x1", "y0", "y1"].map(|corner| found[index][corner].as_f64().unwrap());
        assert_eq!((corners(0), corners(1)), ([-0.5, 0.5, 2.5, 3.5], [0.5, 1.5, 0.5, 2.5]));
        // The scale is symmetric: no weight has the colour of the panel.
        let chart: serde_json::Value = serde_json::from_str(&weights(&head).to_string()).unwrap();
        let trace = &chart["data"][0];
        assert_eq!((&trace["zmin"], &trace["zmax"]), (&(-2.0).into(), &2.0.into()));
        assert_eq!((&trace["y"][0], &trace["colorscale"][1]), (&"p".into(), &serde_json::json!([0.5, "var(--panel)"])));
    }

    #[test]
    fn a_band_goes_along_the_upper_ends_and_back_along_the_lower_ones() {
        let figure = |low, high| Figure { low: Some(low), high: Some(high), ..Figure::default() };
        let band = serde_json::to_value(band(0, &[figure(0.1, 0.3), figure(0.2, 0.4)])).unwrap();
        assert_eq!(band["x"], serde_json::json!([0, 1, 1, 0]));
        assert_eq!(band["y"], serde_json::json!([0.3, 0.4, 0.2, 0.1]));
    }
}
