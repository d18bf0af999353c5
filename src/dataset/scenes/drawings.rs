//! The drawings of fine labels that scenes are composed of: Twemoji graphics (CC BY 4.0), and our own where no emoji fits.

use std::io;

use resvg::{
    tiny_skia::{Pixmap, Transform},
    usvg::{Options, Tree},
};
use twemoji_assets::svg_twemoji_asset;

use crate::domain::{FineId, LabelSet, Taxonomy};

macro_rules! emoji {
    ($($emoji:tt)+) => { vec![$(svg_twemoji_asset!($emoji).data.0),+] };
}

macro_rules! own {
    ($($file:literal)+) => { vec![$(include_str!(concat!("svg/", $file, ".svg"))),+] };
}

/// What is drawn how: fine labels of COCO, and the SVG documents of which each shows all of them.
fn catalogue() -> Vec<(&'static [&'static str], Vec<&'static str>)> {
    vec![
        (&["person"], emoji!("🧍‍♂️" "🧍‍♀️" "🚶" "🏃" "💃" "🕺")),
        // transport
        (&["bicycle"], emoji!("🚲")),
        (&["car"], emoji!("🚗" "🚙")),
        (&["motorcycle"], emoji!("🏍" "🛵")),
        (&["airplane"], emoji!("✈" "🛩")),
        (&["bus"], emoji!("🚌" "🚍")),
        (&["train"], emoji!("🚂" "🚆" "🚄")),
        (&["truck"], emoji!("🚚" "🚛")),
        (&["boat"], emoji!("⛵" "🚤")),
        // outdoor sign
        (&["traffic light"], emoji!("🚦" "🚥")),
        (&["fire hydrant"], own!("fire-hydrant")),
        (&["stop sign"], emoji!("🛑")),
        (&["parking meter"], own!("parking-meter")),
        (&["bench"], own!("bench")),
        // animal
        (&["bird"], emoji!("🐦" "🦜" "🦆")),
        (&["cat"], emoji!("🐈" "🐱")),
        (&["dog"], emoji!("🐕" "🐶" "🐩")),
        (&["horse"], emoji!("🐎" "🐴")),
        (&["sheep"], emoji!("🐑" "🐏")),
        (&["cow"], emoji!("🐄" "🐮")),
        (&["elephant"], emoji!("🐘")),
        (&["bear"], emoji!("🐻" "🐻‍❄️")),
        (&["zebra"], emoji!("🦓")),
        (&["giraffe"], emoji!("🦒")),
        // accessory
        (&["backpack"], emoji!("🎒")),
        (&["umbrella"], emoji!("☂" "🌂" "⛱")),
        (&["handbag"], emoji!("👜" "👛")),
        (&["tie"], emoji!("👔")),
        (&["suitcase"], emoji!("🧳" "💼")),
        // sports
        (&["frisbee"], emoji!("🥏")),
        (&["skis"], emoji!("🎿")),
        (&["skis", "person"], emoji!("⛷")),
        (&["snowboard", "person"], emoji!("🏂")),
        (&["sports ball"], emoji!("⚽" "🏀" "🏐")),
        (&["kite"], emoji!("🪁")),
        (&["baseball bat"], own!("baseball-bat")),
        (&["skateboard"], emoji!("🛹")),
        (&["surfboard"], own!("surfboard")),
        (&["surfboard", "person"], emoji!("🏄")),
        (&["tennis racket"], emoji!("🏸")),
        // dining tools
        (&["bottle"], emoji!("🍾" "🍼")),
        (&["wine glass"], emoji!("🍷")),
        (&["cup"], emoji!("☕" "🍵" "🥤")),
        (&["fork"], own!("fork")),
        (&["fork", "knife"], emoji!("🍴")),
        (&["knife"], emoji!("🔪")),
        (&["spoon"], emoji!("🥄")),
        (&["bowl"], emoji!("🍜" "🍚")),
        (&["bowl", "spoon"], emoji!("🥣")),
        // food
        (&["banana"], emoji!("🍌")),
        (&["apple"], emoji!("🍎" "🍏")),
        (&["sandwich"], emoji!("🥪")),
        (&["orange"], emoji!("🍊")),
        (&["broccoli"], emoji!("🥦")),
        (&["carrot"], emoji!("🥕")),
        (&["hot dog"], emoji!("🌭")),
        (&["pizza"], emoji!("🍕")),
        (&["donut"], emoji!("🍩")),
        (&["cake"], emoji!("🎂" "🍰")),
        // furniture decoration
        (&["chair"], emoji!("🪑")),
        (&["couch"], emoji!("🛋")),
        (&["potted plant"], emoji!("🪴")),
        (&["bed"], emoji!("🛏")),
        (&["dining table"], own!("dining-table")),
        (&["toilet"], emoji!("🚽")),
        // electronic
        (&["tv"], emoji!("📺")),
        (&["laptop"], emoji!("💻")),
        (&["mouse"], emoji!("🖱")),
        (&["remote"], own!("remote")),
        (&["keyboard"], emoji!("⌨")),
        (&["cell phone"], emoji!("📱")),
        // appliance
        (&["microwave"], own!("microwave")),
        (&["oven"], own!("oven")),
        (&["toaster"], own!("toaster")),
        (&["sink"], own!("sink")),
        (&["refrigerator"], own!("refrigerator")),
        // indoor supply
        (&["book"], emoji!("📕" "📗" "📖")),
        (&["clock"], emoji!("🕐" "⏰")),
        (&["vase"], emoji!("🏺")),
        (&["scissors"], emoji!("✂")),
        (&["teddy bear"], emoji!("🧸")),
        (&["hair drier"], own!("hair-drier")),
        (&["toothbrush"], emoji!("🪥")),
    ]
}

/// One drawing, rendered at several sizes on a transparent ground.
pub(super) struct Drawing {
    /// What it shows.
    pub labels: LabelSet,
    /// Square renderings, each side half of the one before.
    levels: Vec<Pixmap>,
}

impl Drawing {
    /// The smallest rendering that need not be enlarged to `side` pixels.
    pub(super) fn level(&self, side: f32) -> &Pixmap {
        let large_enough = self.levels.iter().rev().find(|level| level.width() as f32 >= side);
        large_enough.unwrap_or(&self.levels[0])
    }
}

/// All drawings, rendered for scenes of `side` pixels, in a fixed order.
pub(super) fn render(coco: &Taxonomy, side: u32) -> io::Result<Vec<Drawing>> {
    let mut drawings = Vec::new();
    for (names, documents) in catalogue() {
        let labels: LabelSet = names.iter().filter_map(|name| coco.find_fine(name)).collect();
        for svg in documents {
            let tree = Tree::from_str(svg, &Options::default()).map_err(io::Error::other)?;
            let levels =
                [side, side / 2, side / 4].into_iter().map(|side| rasterise(&tree, side)).collect::<Option<_>>();
            let levels = levels.ok_or_else(|| io::Error::other("a drawing has no pixels"))?;
            drawings.push(Drawing { labels: labels.clone(), levels });
        }
    }
    Ok(drawings)
}

fn rasterise(tree: &Tree, side: u32) -> Option<Pixmap> {
    let mut pixmap = Pixmap::new(side, side)?;
    let scale = side as f32 / tree.size().width().max(tree.size().height());
    resvg::render(tree, Transform::from_scale(scale, scale), &mut pixmap.as_mut());
    Some(pixmap)
}

/// The fine labels of `coco` that are drawn on their own or with others.
pub(super) fn drawn(drawings: &[Drawing]) -> Vec<FineId> {
    let mut labels: Vec<FineId> = drawings.iter().flat_map(|drawing| drawing.labels.iter()).collect();
    labels.sort_unstable();
    labels.dedup();
    labels
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_drawing_shows_labels_of_coco_in_visible_pixels() {
        let coco = Taxonomy::coco();
        for (names, _) in catalogue() {
            assert!(names.iter().all(|name| coco.find_fine(name).is_some()), "{names:?}");
        }
        let drawings = render(&coco, 64).unwrap();
        assert_eq!(drawn(&drawings).len(), 79, "all but the baseball glove");
        for drawing in &drawings {
            for level in &drawing.levels {
                let opaque = level.pixels().iter().filter(|pixel| pixel.alpha() > 128).count();
                assert!(opaque * 14 > level.pixels().len(), "{:?}: {opaque}", drawing.labels);
            }
            // Each belongs to one category, person aside: a scene of it is kept by the rule.
            let parentage = coco.parentage(&drawing.labels);
            use crate::domain::taxonomy::Parentage;
            assert!(matches!(parentage, Parentage::One(_) | Parentage::PublicOnly));
        }
    }
}
