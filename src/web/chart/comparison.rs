//! The comparison, drawn. A backbone has one colour everywhere, `--NAME` of the style sheet; a decision mode has one pattern.

use plotly::{
    Bar, Trace,
    common::{Font, Line, Marker, Pattern, PatternFillMode, PatternShape},
    layout::BarMode,
};

use super::{Chart, axis, error_bars, layout};
use crate::{
    domain::spec::{Backbone, Objective},
    report::Comparison,
    web::filters,
};

/// The four indices of each backbone and mode with their intervals: by index, by backbone, modes side by side.
pub fn comparison(comparison: &Comparison) -> Chart {
    let cells = comparison.rows.iter().flat_map(|row| row.cells.iter().map(move |cell| (row.backbone, cell)));
    let traces: Vec<Box<dyn Trace>> = cells
        .map(|(backbone, cell)| -> Box<dyn Trace> {
            let figures = [cell.figures.ia, cell.figures.ip, cell.figures.ir, cell.figures.if1];
            // Two levels of names, so that a bar is told by its place as well as by its colour.
            let names = vec![["IA", "IP", "IR", "IF1"], [backbone.as_str(); 4]];
            Bar::new(names, figures.map(|figure| figure.value).to_vec())
                .name(format!("{backbone} · {}", filters::mode(cell.objective)))
                .offset_group(cell.objective.as_str())
                .marker(marker(backbone, cell.objective))
                .error_y(error_bars(&figures))
                .hover_template("%{x}: %{y:.3f}")
        })
        .collect();
    if traces.is_empty() {
        return Chart::nothing();
    }
    let layout = layout()
        .bar_mode(BarMode::Group)
        .bar_gap(0.2)
        .height(440)
        .y_axis(axis().range(vec![0.0, 1.04]).dtick(0.2).grid_color("var(--line)"))
        .x_axis(axis().tick_font(Font::new().size(11)).divider_color("var(--line)"));
    Chart::new(traces, layout, "twograin-comparison")
}

fn marker(backbone: Backbone, objective: Objective) -> Marker {
    let colour = format!("var(--{backbone})");
    let shape = match objective {
        Objective::CoarseOnly => PatternShape::Dot,
        Objective::TopKSoftmax => PatternShape::None,
        Objective::SigmoidThreshold => PatternShape::RightDiagonalLine,
    };
    Marker::new()
        .color(colour.clone())
        .line(Line::new().color(colour).width(1.5))
        .pattern(Pattern::new().shape(shape).fill_mode(PatternFillMode::Replace).solidity(0.45).size(7.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_backbone_has_a_colour_in_both_themes() {
        let css = include_str!("../../../static/app.css");
        let mut colours: Vec<&str> = Backbone::ALL
            .iter()
            .map(|backbone| {
                let definition = css.split_once(&format!("--{backbone}: light-dark(")).map(|(_, rest)| rest);
                definition.and_then(|rest| rest.split(')').next()).unwrap_or_else(|| panic!("{backbone} has no colour"))
            })
            .collect();
        colours.sort_unstable();
        colours.dedup();
        assert_eq!(colours.len(), Backbone::ALL.len());
    }
}
