//! Charts: built here, drawn by plotly.js in the browser. Each has its table beside it.
//!
//! Colours are names of the style sheet's custom properties (`var(--…)`), which the browser looks up, so that a chart
//! follows the theme.

mod bottleneck;
mod labels;
mod still;

pub use bottleneck::{interventions, weights};
pub use labels::{labels, precision_recall, reliability};
pub use still::{Bars, Curves};

use std::fmt;

use askama::filters::HtmlSafe;
use plotly::{
    Bar, Configuration, Layout, Plot, Scatter, Trace,
    common::{
        AxisSide, DashType, ErrorData, ErrorType, Font, HoverInfo, Line, LineShape, Marker, MarkerSymbol, Mode,
        Orientation, Pattern, PatternFillMode, PatternShape,
    },
    configuration::{DisplayModeBar, ImageButtonFormats, ModeBarButtonName, ToImageButtonOptions},
    layout::{Axis, BarMode, HoverMode, Legend, Margin},
};

use super::filters;
use crate::{
    domain::spec::Objective,
    report::{Along, CategoryCount, Comparison, Curve, CurvesReport, EpochPoint, Figure, TransitionsReport},
};

/// A line of more points than this is drawn by every n-th of them.
const MAX_POINTS: usize = 1000;

/// A chart as JSON that may stand in a `<script type="application/json">`; `null` where there is nothing to draw.
#[derive(Clone, Debug)]
pub struct Chart(String);

impl fmt::Display for Chart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

// No `<` is left in it, so it can neither end its element nor start a comment.
impl HtmlSafe for Chart {}

impl Chart {
    fn nothing() -> Self {
        Self("null".into())
    }

    fn new(traces: Vec<Box<dyn Trace>>, layout: Layout, file_name: &str) -> Self {
        let mut plot = Plot::new();
        plot.add_traces(traces);
        plot.set_layout(layout);
        plot.set_configuration(configuration(file_name));
        Self(plot.to_json().replace('<', "\\u003c"))
    }
}

/// The four indices of each backbone and mode with their intervals, grouped by index.
pub fn comparison(comparison: &Comparison) -> Chart {
    let cells = comparison.rows.iter().flat_map(|row| row.cells.iter().map(move |cell| (row.backbone, cell)));
    let traces: Vec<Box<dyn Trace>> = cells
        .map(|(backbone, cell)| -> Box<dyn Trace> {
            let figures = [cell.figures.ia, cell.figures.ip, cell.figures.ir, cell.figures.if1];
            let values = figures.map(|figure| figure.value).to_vec();
            // The backbone's colour, and a pattern of the mode's own.
            let colour = filters::backbone_colour(&backbone);
            let shape = match cell.objective {
                Objective::SigmoidThreshold => PatternShape::RightDiagonalLine,
                Objective::TopKSoftmax | Objective::CoarseOnly => PatternShape::None,
            };
            let pattern = Pattern::new()
                .shape(shape)
                .fill_mode(PatternFillMode::Overlay)
                .foreground_color("var(--panel)")
                .solidity(0.35)
                .size(7.0);
            Bar::new(["IA", "IP", "IR", "IF1"].to_vec(), values)
                .name(format!("{backbone} · {}", filters::mode(cell.objective)))
                .marker(Marker::new().color(colour).pattern(pattern))
                .error_y(error_bars(&figures))
                .hover_template("%{x} = %{y:.3f}")
        })
        .collect();
    if traces.is_empty() {
        return Chart::nothing();
    }
    let layout = layout()
        .bar_mode(BarMode::Group)
        .bar_gap(0.25)
        .y_axis(axis().range(vec![0.0, 1.04]).dtick(0.2).grid_color("var(--line)"))
        .x_axis(axis());
    Chart::new(traces, layout, "twograin-comparison")
}

/// Loss on both splits, and IA and coarse accuracy on validation, by epoch.
pub fn epochs(points: &[EpochPoint]) -> Chart {
    if points.is_empty() {
        return Chart::nothing();
    }
    let epochs: Vec<u32> = points.iter().map(|point| point.epoch).collect();
    let line = |name: &str, colour: &str, of: fn(&EpochPoint) -> Option<f64>| {
        Scatter::new(epochs.clone(), points.iter().map(of).collect())
            .name(name)
            .mode(Mode::LinesMarkers)
            .marker(Marker::new().color(format!("var({colour})")).size(6))
    };
    let solid = |colour: &str| Line::new().color(format!("var({colour})")).width(2.0).shape(LineShape::Linear);
    let traces: Vec<Box<dyn Trace>> = vec![
        line("loss, training", "--series-1", |point| Some(point.train_loss)).line(solid("--series-1")),
        line("loss, validation", "--series-2", |point| point.validation_loss)
            .line(solid("--series-2").dash(DashType::Dash)),
        line("IA, validation", "--series-3", |point| point.validation_ia).line(solid("--series-3")).y_axis("y2"),
        line("coarse accuracy, validation", "--series-4", |point| point.validation_coarse_accuracy)
            .line(solid("--series-4").dash(DashType::Dot))
            .y_axis("y2"),
    ];
    let layout = layout()
        .hover_mode(HoverMode::XUnified)
        .x_axis(axis().title("epoch").dtick((points.len() as f64 / 10.0).ceil()))
        .y_axis(axis().title("loss").grid_color("var(--line)").range_mode(plotly::layout::RangeMode::ToZero))
        .y_axis2(
            axis().title("IA, accuracy").overlaying("y").side(AxisSide::Right).range(vec![0.0, 1.04]).show_grid(false),
        );
    Chart::new(traces, layout, "twograin-training")
}

/// How a line among several looks: no two of [`MAX_CURVES`](crate::report::MAX_CURVES) have both colour and dashes in common.
#[derive(Clone, Debug)]
pub struct LineStyle {
    /// A custom property of the style sheet.
    pub colour: String,
    /// As in SVG's `stroke-dasharray`.
    pub dashes: &'static str,
    dash: DashType,
    symbol: MarkerSymbol,
}

impl LineStyle {
    /// Of the line with this index, from 0.
    pub fn of(index: usize) -> Self {
        use MarkerSymbol::{Circle, Cross, Diamond, Square, TriangleUp, X};
        // Neighbours differ in all; after twelve lines colour and dashes would meet again, unless one of them is shifted.
        let (dash, dashes) = match (index + index / 12) % 4 {
            0 => (DashType::Solid, "none"),
            1 => (DashType::Dash, "8 4"),
            2 => (DashType::Dot, "2 3"),
            _ => (DashType::DashDot, "8 3 2 3"),
        };
        let symbols = [Circle, Square, Diamond, TriangleUp, Cross, X];
        let symbol = symbols[(index + index / 6) % symbols.len()].clone();
        Self { colour: format!("var(--series-{})", index % 6 + 1), dashes, dash, symbol }
    }
}

/// One line for each run.
pub fn curves(report: &CurvesReport) -> Chart {
    let last = report.curves.iter().flat_map(|curve| &curve.points).map(|point| point.epoch).max();
    let Some(last) = last else { return Chart::nothing() };
    let line = |(index, curve): (usize, &Curve)| -> Box<dyn Trace> {
        let step = curve.points.len().div_ceil(MAX_POINTS).max(1);
        let end = curve.points.len().saturating_sub(1);
        let shown = curve.points.iter().enumerate().filter(|(at, _)| at.is_multiple_of(step) || *at == end);
        let (x, y): (Vec<f64>, Vec<Option<f64>>) = shown
            .map(|(_, point)| match report.x {
                Along::Epoch => (f64::from(point.epoch), point.value),
                Along::Seconds => (point.seconds, point.value),
            })
            .unzip();
        let style = LineStyle::of(index);
        let marker = Marker::new().color(style.colour.clone()).size(6).symbol(style.symbol);
        Scatter::new(x, y)
            .name(format!("run {}", curve.run.id))
            .mode(if curve.points.len() > 60 { Mode::Lines } else { Mode::LinesMarkers })
            .marker(marker)
            .line(Line::new().color(style.colour).width(2.0).dash(style.dash))
            .hover_template(match report.x {
                Along::Epoch => "epoch %{x}: %{y:.4f}",
                Along::Seconds => "%{x:.0f} s: %{y:.4f}",
            })
    };
    let x = match report.x {
        Along::Epoch => axis().title("epoch").dtick((f64::from(last) / 10.0).ceil()),
        Along::Seconds => axis().title("seconds of training"),
    };
    let y = axis().title(report.measure.words()).grid_color("var(--line)");
    let y = match report.measure.is_loss() {
        true => y.range_mode(plotly::layout::RangeMode::ToZero),
        false => y.range(vec![0.0, 1.04]),
    };
    // The page has a legend of its own, with names and links.
    let layout = layout().height(460).show_legend(false).hover_mode(HoverMode::Closest).x_axis(x).y_axis(y);
    Chart::new(report.curves.iter().enumerate().map(line).collect(), layout, "twograin-curves")
}

/// Kept images per coarse category, both splits.
pub fn categories(categories: &[CategoryCount]) -> Chart {
    if categories.is_empty() {
        return Chart::nothing();
    }
    // Horizontal bars are drawn from the bottom up.
    let names: Vec<String> = categories.iter().rev().map(|category| category.name.clone()).collect();
    let bars = |name: &str, colour: &str, of: fn(&CategoryCount) -> u64| -> Box<dyn Trace> {
        Bar::new(categories.iter().rev().map(of).collect(), names.clone())
            .name(name)
            .orientation(Orientation::Horizontal)
            .marker(Marker::new().color(format!("var({colour})")))
            .hover_info(HoverInfo::All)
    };
    let traces = vec![bars("test", "--series-2", |count| count.test), bars("train", "--series-1", |count| count.train)];
    let layout = layout()
        .bar_mode(BarMode::Group)
        .height(130 + 34 * categories.len())
        .x_axis(axis().grid_color("var(--line)").title("images"))
        .y_axis(axis());
    Chart::new(traces, layout, "twograin-categories")
}

/// Figures of run B minus those of run A, with their intervals.
pub fn differences(report: &TransitionsReport) -> Chart {
    let rows = report.differences.named();
    let rows: Vec<_> = rows.into_iter().filter(|(_, figure)| figure.value.is_some()).collect();
    let title = format!("run {} minus run {}", report.b.run.id, report.a.run.id);
    let axis = axis().title(title).zero_line(true).zero_line_color("var(--strong-line)");
    dots(rows, axis, 44, "twograin-differences")
}

/// One dot a row with its interval, the first row on top. `height`: of a row, in pixels.
fn dots(rows: Vec<(&str, Figure)>, values: Axis, height: usize, file_name: &str) -> Chart {
    if rows.is_empty() {
        return Chart::nothing();
    }
    // Plotly draws from the bottom up.
    let (names, figures): (Vec<String>, Vec<Figure>) =
        rows.into_iter().rev().map(|(name, figure)| (name.to_owned(), figure)).unzip();
    let layout = layout()
        .height(100 + height * names.len())
        .show_legend(false)
        .x_axis(values.grid_color("var(--line)"))
        .y_axis(axis().dtick(1.0).range(vec![-0.7, names.len() as f64 - 0.3]));
    let trace = Scatter::new(figures.iter().map(|figure| figure.value).collect(), names)
        .mode(Mode::Markers)
        .marker(Marker::new().color("var(--series-1)").size(8))
        .error_x(error_bars(&figures))
        .hover_template("%{y}: %{x:.3f}<extra></extra>");
    Chart::new(vec![trace], layout, file_name)
}

fn error_bars(figures: &[Figure]) -> ErrorData {
    let above = |figure: &Figure| match (figure.value, figure.high, figure.spread) {
        (Some(value), Some(high), _) => high - value,
        (_, _, spread) => spread.unwrap_or(0.0),
    };
    let below = |figure: &Figure| match (figure.value, figure.low, figure.spread) {
        (Some(value), Some(low), _) => value - low,
        (_, _, spread) => spread.unwrap_or(0.0),
    };
    ErrorData::new(ErrorType::Data)
        .symmetric(false)
        .array(figures.iter().map(above).collect())
        .array_minus(figures.iter().map(below).collect())
        .color("var(--ink)")
        .thickness(1.2)
        .width(3)
}

fn layout() -> Layout {
    Layout::new()
        .paper_background_color("var(--panel)")
        .plot_background_color("var(--panel)")
        .font(Font::new().family("system-ui, sans-serif").size(13).color("var(--ink)"))
        .margin(Margin::new().left(48).right(48).top(8).bottom(44).auto_expand(true))
        .legend(
            Legend::new().orientation(Orientation::Horizontal).x(0.0).y(1.02).y_anchor(plotly::common::Anchor::Bottom),
        )
        .height(380)
        .auto_size(true)
}

fn axis() -> Axis {
    Axis::new().auto_margin(true).zero_line(false).line_color("var(--line)").tick_color("var(--line)").fixed_range(true)
}

fn configuration(file_name: &str) -> Configuration {
    use ModeBarButtonName::{AutoScale2d, Lasso2d, Pan2d, ResetScale2d, Select2d, Zoom2d, ZoomIn2d, ZoomOut2d};
    Configuration::new()
        .responsive(true)
        .display_logo(false)
        .display_mode_bar(DisplayModeBar::Hover)
        .mode_bar_buttons_to_remove(vec![
            AutoScale2d,
            Lasso2d,
            Pan2d,
            ResetScale2d,
            Select2d,
            Zoom2d,
            ZoomIn2d,
            ZoomOut2d,
        ])
        .to_image_button_options(ToImageButtonOptions::new().format(ImageButtonFormats::Svg).filename(file_name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chart_cannot_end_its_element() {
        let name = "</script><script>alert(1)</script>".to_owned();
        let chart = categories(&[CategoryCount { name, train: 1, test: 1 }]).to_string();
        assert!(!chart.contains('<') && chart.contains("\\u003c/script>"), "{chart}");
    }

    #[test]
    fn nothing_to_draw_is_null() {
        assert_eq!(epochs(&[]).to_string(), "null");
    }

    #[test]
    fn no_two_lines_look_the_same() {
        let styles: Vec<_> = (0..crate::report::MAX_CURVES).map(LineStyle::of).collect();
        let looks: std::collections::BTreeSet<_> = styles.iter().map(|style| (&style.colour, style.dashes)).collect();
        assert_eq!(looks.len(), styles.len());
        // Without colour, neighbours differ all the same.
        assert!(styles.windows(2).all(|pair| pair[0].dashes != pair[1].dashes));
    }

    #[test]
    fn undefined_figures_leave_a_gap() {
        let figures = [Figure::default()];
        let bars = serde_json::to_value(error_bars(&figures)).unwrap();
        assert_eq!(bars["array"], serde_json::json!([0.0]));
    }
}
