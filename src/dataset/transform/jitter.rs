//! Random brightness, contrast and saturation: torchvision's `ColorJitter(0.4, 0.4, 0.4)`.

use std::ops::RangeInclusive;

use rand::{Rng, RngExt, seq::SliceRandom};

/// Factors are drawn from here; 1 changes nothing.
const FACTOR: RangeInclusive<f32> = 0.6..=1.4;

/// What a factor changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Property {
    /// The distance to black.
    Brightness,
    /// The distance to the image's mean grey.
    Contrast,
    /// The distance of each pixel to its grey.
    Saturation,
}

/// Three changes of colour, in their order. The hue stays.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Jitter([(Property, f32); 3]);

impl Jitter {
    /// Factors and order by chance.
    pub(super) fn random(rng: &mut impl Rng) -> Self {
        let properties = [Property::Brightness, Property::Contrast, Property::Saturation];
        let mut steps = properties.map(|property| (property, rng.random_range(FACTOR)));
        steps.shuffle(rng);
        Self(steps)
    }

    /// Changes an image of `[red, green, blue]` pixels.
    pub(super) fn apply(&self, pixels: &mut [[u8; 3]]) {
        for &(property, factor) in &self.0 {
            adjust(property, factor, pixels);
        }
    }
}

/// As Pillow's `ImageEnhance` does it, to the bit: each step gives bytes, whose fractions are cut off.
fn adjust(property: Property, factor: f32, pixels: &mut [[u8; 3]]) {
    match property {
        Property::Brightness => every_value(pixels, |value| away_from(0, value, factor)),
        Property::Contrast => {
            let sum: u64 = pixels.iter().map(|&pixel| u64::from(grey(pixel))).sum();
            let mean = (sum as f64 / pixels.len().max(1) as f64 + 0.5) as u8;
            every_value(pixels, |value| away_from(mean, value, factor));
        }
        Property::Saturation => {
            for pixel in pixels {
                let grey = grey(*pixel);
                *pixel = pixel.map(|value| away_from(grey, value, factor));
            }
        }
    }
}

fn every_value(pixels: &mut [[u8; 3]], change: impl Fn(u8) -> u8) {
    let table: [u8; 256] = std::array::from_fn(|value| change(value as u8));
    pixels.as_flattened_mut().iter_mut().for_each(|value| *value = table[usize::from(*value)]);
}

/// `factor` times as far from `origin`, as far as a byte reaches.
fn away_from(origin: u8, value: u8, factor: f32) -> u8 {
    let difference = i16::from(value) - i16::from(origin);
    (f32::from(origin) + factor * f32::from(difference)) as u8
}

/// Luma (ITU-R BT.601), in 65536ths, to the nearest.
fn grey([red, green, blue]: [u8; 3]) -> u8 {
    ((19_595 * u32::from(red) + 38_470 * u32::from(green) + 7_471 * u32::from(blue) + 0x8000) >> 16) as u8
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
    use serde::Deserialize;

    use super::*;

    /// What Pillow made of the image below (`tests/reference/transforms.py`).
    #[derive(Deserialize)]
    struct Reference {
        jitter: Vec<Adjusted>,
    }

    #[derive(Deserialize)]
    struct Adjusted {
        steps: Vec<(String, f32)>,
        pixels: Vec<u8>,
    }

    fn image() -> Vec<[u8; 3]> {
        (0..12 * 9)
            .map(|at| [at * 37, at * 101 + 13, at * at * 7 + at / 12 * 50].map(|value: u32| value as u8))
            .collect()
    }

    #[test]
    fn each_property_is_changed_as_pillow_does_it() {
        let reference: Reference =
            serde_json::from_str(include_str!("../../../tests/reference/transforms.json")).unwrap();
        assert!(reference.jitter.len() > 12);
        for Adjusted { steps, pixels } in reference.jitter {
            let mut image = image();
            for (name, factor) in &steps {
                let property = match name.as_str() {
                    "brightness" => Property::Brightness,
                    "contrast" => Property::Contrast,
                    _ => Property::Saturation,
                };
                adjust(property, *factor, &mut image);
            }
            assert_eq!(image.as_flattened(), pixels, "{steps:?}");
        }
    }

    #[test]
    fn factors_and_orders_are_drawn_evenly() {
        let drawn: Vec<Jitter> = (0..6000).map(|seed| Jitter::random(&mut ChaCha8Rng::seed_from_u64(seed))).collect();
        for first in [Property::Brightness, Property::Contrast, Property::Saturation] {
            let factors: Vec<f32> =
                drawn.iter().filter(|jitter| jitter.0[0].0 == first).map(|jitter| jitter.0[0].1).collect();
            assert!(factors.len().abs_diff(2000) < 200, "{first:?} is first {} times", factors.len());
            assert!(factors.iter().all(|factor| FACTOR.contains(factor)));
            let mean = factors.iter().sum::<f32>() / factors.len() as f32;
            assert!((mean - 1.0).abs() < 0.02, "{first:?}: {mean}");
        }
    }

    proptest! {
        #[test]
        fn factors_of_one_change_nothing(pixels in prop::collection::vec(any::<[u8; 3]>(), 0..50)) {
            let mut changed = pixels.clone();
            Jitter([(Property::Contrast, 1.0), (Property::Saturation, 1.0), (Property::Brightness, 1.0)]).apply(&mut changed);
            prop_assert_eq!(changed, pixels);
        }

        #[test]
        fn grey_has_no_saturation_to_change(values in prop::collection::vec(any::<u8>(), 1..50), factor in FACTOR) {
            let pixels: Vec<_> = values.iter().map(|&value| [value; 3]).collect();
            let mut changed = pixels.clone();
            adjust(Property::Saturation, factor, &mut changed);
            prop_assert_eq!(changed, pixels);
        }
    }
}
