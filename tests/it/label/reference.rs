//! Curves, calibration and confusion against scikit-learn (`tests/reference/classes.py`), and properties.

use proptest::prelude::*;
use serde_json::{Value, json};
use twograin::{
    analysis::{Calibration, Confusion, calibration::Bin, pr_curve},
    domain::CoarseId,
};

use super::close;

fn reference(what: &str) -> Value {
    let mut all: Value = serde_json::from_str(include_str!("../../reference/classes.json")).unwrap();
    all[what].take()
}

fn numbers(of: &Value) -> Vec<f64> {
    of.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

fn truths(of: &Value) -> Vec<bool> {
    numbers(of).into_iter().map(|is| is == 1.0).collect()
}

#[test]
fn curves_are_scikit_learns() {
    for case in reference("curves").as_array().unwrap() {
        let (scores, positives) = (numbers(&case["score"]), truths(&case["positive"]));
        let curve = pr_curve::precision_recall_curve(scores.into_iter().zip(positives.iter().copied()));
        // Ours begins where nothing is taken, theirs ends there, without a threshold.
        let theirs: Vec<_> = ["precision", "recall"].map(|name| numbers(&case[name])).into();
        let thresholds = numbers(&case["threshold"]);
        assert_eq!(curve.len(), thresholds.len() + 1);
        for (index, point) in curve.iter().rev().enumerate() {
            assert!(
                (point.precision - theirs[0][index]).abs() < 1e-12 && (point.recall - theirs[1][index]).abs() < 1e-12
            );
            assert_eq!(point.threshold, thresholds.get(index).copied());
            let (p, r) = (point.precision, point.recall);
            assert!((point.f1 - if r > 0.0 { 2.0 * p * r / (p + r) } else { 0.0 }).abs() < 1e-12);
        }
        // The area beneath its steps is the average precision.
        let area: f64 = curve.windows(2).map(|pair| (pair[1].recall - pair[0].recall) * pair[1].precision).sum();
        close(Some(area), &case["average_precision"], 1e-12, "average precision");
    }
}

#[test]
fn calibration_is_scikit_learns() {
    let case = reference("calibration");
    let ours = Calibration::of(numbers(&case["probability"]).into_iter().zip(truths(&case["true"])));
    close(ours.error(), &case["ece"], 1e-12, "ECE");
    let images: Vec<u64> = ours.bins.iter().map(|bin| bin.images).collect();
    assert_eq!(json!(images), case["images"]);
    let filled = || ours.bins.into_iter().filter(|bin| bin.images > 0);
    for (name, of) in [("share", Bin::frequency as fn(Bin) -> Option<f64>), ("mean", Bin::confidence)] {
        for (bin, theirs) in filled().zip(case[name].as_array().unwrap()) {
            close(of(bin), theirs, 1e-12, name);
        }
    }
}

#[test]
fn confusion_is_scikit_learns() {
    let case = reference("confusion");
    let category = |of: &Value| -> Vec<CoarseId> { numbers(of).into_iter().map(|id| CoarseId(id as u16)).collect() };
    let pairs = category(&case["truth"]).into_iter().zip(category(&case["predicted"]));
    let confusion: Confusion = pairs.collect();
    for (truth, row) in (0u16..).map(CoarseId).zip(case["matrix"].as_array().unwrap()) {
        let ours: Vec<u64> = (0..5).map(|predicted| confusion.get(truth, CoarseId(predicted))).collect();
        assert_eq!(json!(ours), *row);
        assert_eq!(confusion.row(truth).map(|(_, images)| images).sum::<u64>(), ours.iter().sum::<u64>());
        let counts = confusion.counts(truth);
        let at = truth.index();
        assert_eq!(json!(counts.support as f64), case["support"][at]);
        for (name, value) in [("precision", counts.precision()), ("recall", counts.recall()), ("f1", counts.f1())] {
            close(value, &case[name][at], 1e-12, name);
        }
    }
}

proptest! {
    #[test]
    fn a_thinned_curve_is_near_every_point_and_keeps_the_ends(
        items in prop::collection::vec((0u16..300, any::<bool>()), 1..400), step in 0.001f64..0.3,
    ) {
        let curve = pr_curve::precision_recall_curve(items.iter().map(|(score, is)| (f64::from(*score), *is)));
        let kept = pr_curve::thinned(&curve, step);
        prop_assert_eq!(kept.first(), curve.first());
        prop_assert_eq!(kept.last(), curve.last());
        prop_assert!(kept.iter().all(|point| curve.contains(point)));
        for point in &curve {
            let near = |other: &&pr_curve::PrPoint| {
                (other.precision - point.precision).abs().max((other.recall - point.recall).abs()) < step
            };
            prop_assert!(kept.iter().any(|other| near(&other)));
        }
        prop_assert!(curve.windows(2).all(|pair| pair[0].recall <= pair[1].recall && pair[0].threshold != pair[1].threshold));
        if let Some(best) = pr_curve::best_f1(&curve) {
            prop_assert!(curve.iter().all(|point| point.f1 <= best.f1));
            prop_assert_eq!(pr_curve::reaching(&curve, 1.0).map(|point| point.recall), Some(1.0));
        }
    }
}
