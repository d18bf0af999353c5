//! Composes one scene: a picture, and what is to be seen in it.

use std::ops::Range;

use image::{ExtendedColorType, ImageResult, codecs::jpeg::JpegEncoder};
use rand::{
    Rng, RngExt,
    seq::{IndexedRandom, SliceRandom},
};
use resvg::tiny_skia::{FillRule, FilterQuality, Mask, Path, Pixmap, PixmapPaint, Transform};

use super::{
    background,
    drawings::{self, Drawing},
};
use crate::domain::{FineId, Taxonomy};

/// How hard the scenes are. Shares are of scenes; sizes are of the scene's side.
struct Difficulty {
    /// Shares of scenes with two and with three fine labels of the category; the others have one.
    two_labels: f64,
    three_labels: f64,
    /// Share with a person added.
    person: f64,
    /// Size of a drawing among one, two, three or more.
    sizes: [Range<f32>; 3],
    /// Share in which everything is smaller, by this factor.
    small: f64,
    small_factor: f32,
    /// Share with obstacles in the foreground.
    obstructed: f64,
    /// Degrees to either side.
    rotation: f32,
    /// Brightness of a drawing, and of each of its colours.
    brightness: Range<f32>,
    tint: Range<f32>,
    /// Share without colour.
    grey: f64,
    /// Largest change of a pixel by noise, of 255.
    noise: i16,
    /// A scene that hides more than the rest of an object is drawn again.
    visible: f32,
}

const DIFFICULTY: Difficulty = Difficulty {
    two_labels: 0.30,
    three_labels: 0.10,
    person: 0.25,
    sizes: [0.50..0.75, 0.40..0.55, 0.32..0.44],
    small: 0.12,
    small_factor: 0.7,
    obstructed: 0.15,
    rotation: 25.0,
    brightness: 0.75..1.15,
    tint: 0.88..1.12,
    grey: 0.04,
    noise: 8,
    visible: 0.45,
};

/// Places tried for a drawing, and scenes tried for one that shows enough of everything.
const TRIES: usize = 24;
const JPEG_QUALITY: u8 = 90;
/// From this alpha on, a pixel counts as covered.
const OPAQUE: u8 = 128;

/// A picture and what is to be seen in it.
pub(super) struct Scene {
    pub jpeg: Vec<u8>,
    pub objects: Vec<Object>,
}

/// A visible object of one fine label.
#[derive(Debug)]
pub(super) struct Object {
    pub label: FineId,
    /// Left, top, width and height of its visible part, in pixels.
    pub bbox: [u32; 4],
    /// Its visible pixels.
    pub area: u32,
}

/// What all scenes have in common.
pub(super) struct Composer {
    side: u32,
    drawings: Vec<Drawing>,
    /// The drawn labels of each category that has any.
    categories: Vec<Vec<FineId>>,
    public: Vec<FineId>,
}

impl Composer {
    pub(super) fn new(coco: &Taxonomy, side: u32) -> std::io::Result<Self> {
        let drawings = drawings::render(coco, side)?;
        let mut categories = vec![Vec::new(); coco.coarse().len()];
        let mut public = Vec::new();
        for label in drawings::drawn(&drawings) {
            match coco.fine()[label.index()].parent {
                Some(coarse) => categories[coarse.index()].push(label),
                None => public.push(label),
            }
        }
        categories.retain(|labels| !labels.is_empty());
        Ok(Self { side, drawings, categories, public })
    }

    /// A scene of one category, drawn from `rng`.
    pub(super) fn compose(&self, rng: &mut impl Rng) -> ImageResult<Scene> {
        let mut sketch = self.sketch(rng);
        for _ in 1..TRIES {
            if sketch.least_visible() >= DIFFICULTY.visible {
                break;
            }
            sketch = self.sketch(rng);
        }
        let rgb = finish(&sketch.canvas, rng);
        let mut jpeg = Vec::new();
        JpegEncoder::new_with_quality(&mut jpeg, JPEG_QUALITY).encode(
            &rgb,
            self.side,
            self.side,
            ExtendedColorType::Rgb8,
        )?;
        Ok(Scene { jpeg, objects: sketch.objects() })
    }

    fn sketch(&self, rng: &mut impl Rng) -> Sketch<'_> {
        let subjects = self.subjects(rng);
        let sizes = &DIFFICULTY.sizes[subjects.len().clamp(1, 3) - 1];
        let factor = if rng.random_bool(DIFFICULTY.small) { DIFFICULTY.small_factor } else { 1.0 };
        let mut sketch = Sketch::new(self.side);
        background::paint(&mut sketch.canvas, rng);
        for drawing in subjects {
            let size = factor * rng.random_range(sizes.clone()) * self.side as f32;
            sketch.place(drawing, size, rng);
        }
        if rng.random_bool(DIFFICULTY.obstructed) {
            for _ in 0..2 {
                if let Some(obstacle) = background::obstruct(&mut sketch.canvas, rng) {
                    sketch.hide(&obstacle);
                }
            }
        }
        sketch
    }

    /// The drawings of a scene, the farthest first: labels of one category, and sometimes a person.
    fn subjects(&self, rng: &mut impl Rng) -> Vec<&Drawing> {
        let draw = rng.random::<f64>();
        let count = match draw {
            _ if draw < DIFFICULTY.three_labels => 3,
            _ if draw < DIFFICULTY.three_labels + DIFFICULTY.two_labels => 2,
            _ => 1,
        };
        let labels: &[FineId] = self.categories.choose(rng).map_or(&[], Vec::as_slice);
        let mut labels: Vec<FineId> = labels.sample(rng, count).copied().collect();
        if rng.random_bool(DIFFICULTY.person) {
            labels.extend(self.public.choose(rng));
        }
        labels.shuffle(rng);
        labels.into_iter().filter_map(|label| self.drawing_of(label, rng)).collect()
    }

    fn drawing_of(&self, label: FineId, rng: &mut impl Rng) -> Option<&Drawing> {
        let public = self.public.contains(&label);
        // A person beside the subject is a person alone.
        let shows = |drawing: &&Drawing| drawing.labels.contains(label) && (!public || drawing.labels.len() == 1);
        let candidates: Vec<&Drawing> = self.drawings.iter().filter(shows).collect();
        candidates.choose(rng).copied()
    }
}

/// A scene in the making.
struct Sketch<'a> {
    canvas: Pixmap,
    /// Which of `placed` each pixel shows.
    owner: Vec<Option<usize>>,
    placed: Vec<Placed<'a>>,
}

struct Placed<'a> {
    drawing: &'a Drawing,
    centre: (f32, f32),
    size: f32,
    /// Its pixels if nothing hid it.
    pixels: u32,
}

impl<'a> Sketch<'a> {
    fn new(side: u32) -> Self {
        let canvas = Pixmap::new(side, side).expect("the side is checked to be positive");
        Self { canvas, owner: vec![None; (side * side) as usize], placed: Vec::new() }
    }

    fn place(&mut self, drawing: &'a Drawing, size: f32, rng: &mut impl Rng) {
        let side = self.canvas.width();
        let centre = self.free_place(size, rng);
        let rendering = drawing.level(size);
        let scale = size / rendering.width() as f32;
        let mirror = if rng.random() { -1.0 } else { 1.0 };
        let half = rendering.width() as f32 / 2.0;
        let transform = Transform::from_translate(-half, -half)
            .post_scale(scale * mirror, scale)
            .post_rotate(rng.random_range(-DIFFICULTY.rotation..=DIFFICULTY.rotation))
            .post_translate(centre.0, centre.1);

        let mut layer = Pixmap::new(side, side).expect("the canvas has the same side");
        let paint = PixmapPaint { quality: FilterQuality::Bilinear, ..PixmapPaint::default() };
        layer.draw_pixmap(0, 0, rendering.as_ref(), &paint, transform, None);
        let number = self.placed.len();
        let mut pixels = 0;
        for (owner, pixel) in self.owner.iter_mut().zip(layer.pixels()) {
            if pixel.alpha() >= OPAQUE {
                *owner = Some(number);
                pixels += 1;
            }
        }
        let brightness = rng.random_range(DIFFICULTY.brightness.clone());
        let gains = [(); 3].map(|()| brightness * rng.random_range(DIFFICULTY.tint.clone()));
        for rgba in layer.data_mut().chunks_exact_mut(4) {
            let alpha = rgba[3];
            for (value, gain) in rgba.iter_mut().zip(gains) {
                // Premultiplied: no colour exceeds the alpha.
                *value = ((f32::from(*value) * gain) as u8).min(alpha);
            }
        }
        self.canvas.draw_pixmap(0, 0, layer.as_ref(), &PixmapPaint::default(), Transform::identity(), None);
        self.placed.push(Placed { drawing, centre, size, pixels });
    }

    /// The centre for a drawing of `size` that overlaps least with what is there, of some random ones within the picture.
    fn free_place(&self, size: f32, rng: &mut impl Rng) -> (f32, f32) {
        let side = self.canvas.width() as f32;
        let margin = (0.45 * size).min(side / 2.0);
        let mut best = (f32::INFINITY, (side / 2.0, side / 2.0));
        for _ in 0..TRIES {
            let (x, y) = (rng.random_range(margin..=side - margin), rng.random_range(margin..=side - margin));
            let overlap: f32 = self
                .placed
                .iter()
                .map(|other| (0.5 * (size + other.size) - (x - other.centre.0).hypot(y - other.centre.1)).max(0.0))
                .sum();
            if overlap < best.0 {
                best = (overlap, (x, y));
            }
        }
        best.1
    }

    /// Records that `obstacle` hides what it covers.
    fn hide(&mut self, obstacle: &Path) {
        let side = self.canvas.width();
        let Some(mut mask) = Mask::new(side, side) else { return };
        mask.fill_path(obstacle, FillRule::Winding, true, Transform::identity());
        for (owner, &covered) in self.owner.iter_mut().zip(mask.data()) {
            if covered >= OPAQUE {
                *owner = None;
            }
        }
    }

    /// The smallest visible share of a placed drawing.
    fn least_visible(&self) -> f32 {
        let visible = |number| self.owner.iter().filter(|&&owner| owner == Some(number)).count();
        let share = |(number, placed): (usize, &Placed<'_>)| visible(number) as f32 / placed.pixels.max(1) as f32;
        self.placed.iter().enumerate().map(share).fold(1.0, f32::min)
    }

    fn objects(&self) -> Vec<Object> {
        let mut objects = Vec::new();
        for (number, placed) in self.placed.iter().enumerate() {
            let (mut left, mut top, mut right, mut bottom, mut area) = (u32::MAX, u32::MAX, 0, 0, 0);
            for (position, _) in (0u32..).zip(&self.owner).filter(|&(_, &owner)| owner == Some(number)) {
                let (x, y) = (position % self.canvas.width(), position / self.canvas.width());
                (left, top, right, bottom) = (left.min(x), top.min(y), right.max(x + 1), bottom.max(y + 1));
                area += 1;
            }
            if area > 0 {
                let bbox = [left, top, right - left, bottom - top];
                objects.extend(placed.drawing.labels.iter().map(|label| Object { label, bbox, area }));
            }
        }
        objects
    }
}

/// The canvas as RGB bytes, as a camera might have taken it: noisy, sometimes without colour.
fn finish(canvas: &Pixmap, rng: &mut impl Rng) -> Vec<u8> {
    let grey = rng.random_bool(DIFFICULTY.grey);
    let mut rgb = Vec::with_capacity(canvas.pixels().len() * 3);
    for pixel in canvas.pixels() {
        let colours = [pixel.red(), pixel.green(), pixel.blue()].map(i16::from);
        let mean = colours.iter().sum::<i16>() / 3;
        let noise = rng.random_range(-DIFFICULTY.noise..=DIFFICULTY.noise);
        rgb.extend(colours.map(|colour| ((if grey { mean } else { colour }) + noise).clamp(0, 255) as u8));
    }
    rgb
}
