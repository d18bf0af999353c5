//! What stands behind and before the drawings of a scene: gradients, shapes, scribbles. None of it has a label.

use std::{f32::consts::TAU, ops::Range};

use rand::{Rng, RngExt};
use resvg::tiny_skia::{
    Color, FillRule, GradientStop, LineCap, LinearGradient, Paint, Path, PathBuilder, Pixmap, Point, SpreadMode,
    Stroke, Transform,
};

/// Fills `canvas` with a gradient of two muted colours, shapes and scribbles.
pub(super) fn paint(canvas: &mut Pixmap, rng: &mut impl Rng) {
    let side = canvas.width() as f32;
    let (start, end) = (muted(1.0, rng), muted(1.0, rng));
    canvas.fill(start);
    let angle = rng.random_range(0.0..TAU);
    let reach = Point::from_xy(angle.cos() * side / 2.0, angle.sin() * side / 2.0);
    let centre = Point::from_xy(side / 2.0, side / 2.0);
    let stops = vec![GradientStop::new(0.0, start), GradientStop::new(1.0, end)];
    if let Some(shader) =
        LinearGradient::new(centre - reach, centre + reach, stops, SpreadMode::Pad, Transform::identity())
    {
        let whole = PathBuilder::from_circle(side / 2.0, side / 2.0, side);
        fill(canvas, whole, Paint { shader, ..Paint::default() });
    }
    for _ in 0..rng.random_range(3..9) {
        let blob = blob(side, 0.06..0.22, rng);
        fill(canvas, blob, solid(muted(rng.random_range(0.3..0.8), rng)));
    }
    for _ in 0..rng.random_range(1..5) {
        scribble(canvas, rng);
    }
}

/// Draws a shape over what is there, as an obstacle to the view. Returns it, for what it hides to be known.
pub(super) fn obstruct(canvas: &mut Pixmap, rng: &mut impl Rng) -> Option<Path> {
    let blob = blob(canvas.width() as f32, 0.08..0.16, rng)?;
    fill(canvas, Some(blob.clone()), solid(muted(1.0, rng)));
    Some(blob)
}

/// A polygon around a random place, its corners at distances within `radii` times `side`.
fn blob(side: f32, radii: Range<f32>, rng: &mut impl Rng) -> Option<Path> {
    let (x, y) = (rng.random_range(0.0..side), rng.random_range(0.0..side));
    let corners = rng.random_range(3..9);
    let mut path = PathBuilder::new();
    for corner in 0..corners {
        let angle = TAU * corner as f32 / corners as f32;
        let radius = side * rng.random_range(radii.clone());
        let (x, y) = (x + radius * angle.cos(), y + radius * angle.sin());
        if corner == 0 { path.move_to(x, y) } else { path.line_to(x, y) }
    }
    path.close();
    path.finish()
}

fn scribble(canvas: &mut Pixmap, rng: &mut impl Rng) {
    let side = canvas.width() as f32;
    let mut point = || (rng.random_range(0.0..side), rng.random_range(0.0..side));
    let mut path = PathBuilder::new();
    let (x, y) = point();
    path.move_to(x, y);
    for _ in 0..3 {
        let ((x1, y1), (x, y)) = (point(), point());
        path.quad_to(x1, y1, x, y);
    }
    let stroke = Stroke { width: side * rng.random_range(0.006..0.02), line_cap: LineCap::Round, ..Stroke::default() };
    let paint = solid(muted(rng.random_range(0.4..0.9), rng));
    if let Some(path) = path.finish() {
        canvas.stroke_path(&path, &paint, &stroke, Transform::identity(), None);
    }
}

fn fill(canvas: &mut Pixmap, path: Option<Path>, paint: Paint<'_>) {
    if let Some(path) = path {
        canvas.fill_path(&path, &paint, FillRule::Winding, Transform::identity(), None);
    }
}

fn solid(color: Color) -> Paint<'static> {
    let mut paint = Paint::default();
    paint.set_color(color);
    paint
}

/// A random colour of low to middling saturation: the drawings stay the more colourful part.
fn muted(opacity: f32, rng: &mut impl Rng) -> Color {
    let value = rng.random_range(0.25..1.0f32);
    let saturation = rng.random_range(0.0..0.45f32);
    let [red, green, blue] = [(); 3].map(|()| (value * (1.0 - saturation * rng.random::<f32>()) * 255.0) as u8);
    Color::from_rgba8(red, green, blue, (opacity * 255.0) as u8)
}
