//! Statistics of stored scores and outcomes against statsmodels, numpy and scikit-learn (`tests/reference/analysis.py`),
//! closed forms and properties.

use proptest::prelude::*;
use serde_json::Value;
use twograin::{
    analysis::{
        Agreement, Decision, Estimate, LabelCounts, McNemarMethod, Ranking, Transitions, Truth, average_precisions,
        interval::RESAMPLES, label_counts, ranking::mean,
    },
    domain::{CoarseId, FineId, LabelSet, Outcome},
};

fn reference(what: &str) -> Value {
    let mut all: Value = serde_json::from_str(include_str!("../reference/analysis.json")).unwrap();
    all[what].take()
}

fn same(ours: Option<f64>, theirs: &Value, what: &str) {
    match (ours, theirs.as_f64()) {
        (Some(ours), Some(theirs)) => assert!((ours - theirs).abs() < 1e-12, "{what}: {ours} and {theirs}"),
        (ours, theirs) => assert_eq!(ours, theirs, "{what}"),
    }
}

/// The same figure, and an interval that agrees within the error of two bootstraps: a few percent of its width, and `step`,
/// by which the figure can jump.
pub fn agrees(ours: Estimate, theirs: &Value, step: f64, what: &str) {
    same(ours.value, &theirs["value"], what);
    let interval = ours.interval.unwrap_or_else(|| panic!("{what}: no interval"));
    let [low, high] = ["low", "high"].map(|end| theirs[end].as_f64().unwrap());
    let allowed = 0.05 * (high - low) + step;
    assert!(
        (interval.low - low).abs() < allowed && (interval.high - high).abs() < allowed,
        "{what}: {interval:?} and {theirs}"
    );
}

#[test]
fn mcnemars_test_is_statsmodels() {
    for case in reference("mcnemar").as_array().unwrap() {
        let [only_a, only_b] = ["only_a", "only_b"].map(|name| case[name].as_u64().unwrap());
        let test = Agreement { both: 40, only_a, only_b, neither: 7 }.mcnemar();
        let method = if case["exact"] == true { McNemarMethod::Exact } else { McNemarMethod::ChiSquared };
        assert_eq!(test.method, method, "{case}");
        if only_a == only_b {
            // Here statsmodels lets the correction overshoot.
            assert_eq!(test.p, 1.0, "{case}");
        } else {
            same(test.statistic, &case["statistic"], "χ²");
            let p = case["p"].as_f64().unwrap();
            assert!((test.p / p - 1.0).abs() < 1e-9, "{} and {p}", test.p);
        }
    }
}

#[test]
fn differences_are_those_of_a_bootstrap_image_by_image() {
    for case in reference("differences").as_array().unwrap() {
        let cells: Vec<usize> =
            case["cells"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as usize).collect();
        let outcomes = Outcome::ALL.into_iter().flat_map(|a| Outcome::ALL.map(|b| (a, b)));
        let images = || outcomes.clone().zip(&cells).flat_map(|(pair, n)| std::iter::repeat_n(pair, *n));
        let transitions: Transitions = images().collect();
        assert_eq!(transitions.get(Outcome::Ftct, Outcome::Ffct), cells[2] as u64);
        let n = images().count() as f64;
        let names = ["IA", "IP", "IR", "IF1", "coarse accuracy", "fine exact match"];
        for ((ours, theirs), name) in
            transitions.differences(3).into_iter().zip(case["figures"].as_array().unwrap()).zip(names)
        {
            agrees(ours, theirs, 1.0 / n, name);
            let [ours, theirs] = [
                ours.interval.unwrap().dropped as f64 / RESAMPLES as f64,
                theirs["dropped"].as_f64().unwrap() / 40_000.0,
            ];
            assert!((ours - theirs).abs() < 0.01, "{name}: {ours} and {theirs} are not defined");
        }
        // The same question, asked of the category alone.
        let agreement: Agreement = images().map(|(a, b)| (a.coarse_true(), b.coarse_true())).collect();
        agrees(agreement.difference(3), &case["figures"][4], 1.0 / n, "coarse accuracy alone");
    }
}

#[test]
fn what_does_not_differ_is_degenerate() {
    let same: Transitions =
        [Outcome::Ftct, Outcome::Ffct, Outcome::Ffcf].map(|outcome| (outcome, outcome)).into_iter().collect();
    let [ia, ..] = same.differences(0);
    let interval = ia.interval.unwrap();
    assert!(interval.degenerate && (interval.low, interval.high) == (0.0, 0.0), "{interval:?}");
    let nothing: Transitions = [(Outcome::Ffcf, Outcome::Ffct)].into_iter().collect();
    let [_, ip, ..] = nothing.differences(0);
    assert_eq!(ip, Estimate::default(), "IP is undefined under both");
    assert_eq!(nothing.margins().1.ffct, 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// With p₁₀ and p₀₁ the shares of discordant images, the variance of their difference is (p₁₀ + p₀₁ − (p₁₀ − p₀₁)²) / n.
    #[test]
    fn the_difference_of_two_accuracies_has_the_paired_normal_interval(
        both in 300u64..2000, only_a in 100u64..600, only_b in 100u64..600, neither in 0u64..900, seed: u64,
    ) {
        let n = (both + only_a + only_b + neither) as f64;
        let (a, b) = (only_a as f64 / n, only_b as f64 / n);
        let half = 1.959964 * ((a + b - (b - a).powi(2)) / n).sqrt();
        let ours = Agreement { both, only_a, only_b, neither }.difference(seed);
        let interval = ours.interval.unwrap();
        prop_assert!((ours.value.unwrap() - (b - a)).abs() < 1e-12);
        prop_assert!((interval.low - (b - a - half)).abs() < 0.1 * half, "{interval:?}, {} ± {half}", b - a);
        prop_assert!((interval.high - (b - a + half)).abs() < 0.1 * half, "{interval:?}, {} ± {half}", b - a);
    }
}

/// Label by label: `[labels][images]`.
fn matrix<T>(rows: &Value, of: fn(&Value) -> T) -> Vec<Vec<T>> {
    rows.as_array().unwrap().iter().map(|row| row.as_array().unwrap().iter().map(of).collect()).collect()
}

#[test]
fn figures_per_label_are_scikit_learns() {
    let case = reference("labels");
    let scores = matrix(&case["scores"], |score| score.as_f64().unwrap());
    let [truth, predicted] = ["truth", "predicted"].map(|name| matrix(&case[name], |is| is == 1));
    let images = scores[0].len();
    let set = |rows: &[Vec<bool>], image: usize| -> LabelSet {
        (0u16..).zip(rows).filter(|(_, row)| row[image]).map(|(label, _)| FineId(label)).collect()
    };
    let truths: Vec<LabelSet> = (0..images).map(|image| set(&truth, image)).collect();
    let decisions: Vec<Decision> = (0..images)
        .map(|image| Decision {
            fine: Some(set(&predicted, image)),
            coarse: CoarseId(0),
            fine_correct: None,
            coarse_correct: true,
        })
        .collect();
    let counts = label_counts(&decisions, truths.iter().map(|fine| Truth { fine, coarse: CoarseId(0) }), scores.len());

    let items = |label: usize| {
        (0..images).zip(&scores[label]).zip(&truth[label]).map(|((image, score), is)| (*score, image, *is))
    };
    let rankings: Vec<Ranking> = (0..scores.len()).map(|label| Ranking::of(items(label))).collect();
    let supported: Vec<usize> = (0..scores.len()).filter(|label| counts[*label].support > 0).collect();
    let pooled = Ranking::of(supported.iter().flat_map(|label| items(*label)));
    let precisions = average_precisions(&rankings, &pooled, images, RESAMPLES, 5);

    for (label, theirs) in case["labels"].as_array().unwrap().iter().enumerate() {
        let ours = counts[label];
        assert_eq!(Some(ours.support), theirs["support"].as_u64());
        for (name, ours) in [("precision", ours.precision()), ("recall", ours.recall()), ("f1", ours.f1())] {
            same(ours, &theirs[name], &format!("{name} of {label}"));
        }
        if theirs["average_precision"].is_null() {
            assert_eq!(precisions.each[label], Estimate::default(), "a label without images has none");
        } else {
            agrees(precisions.each[label], &theirs["average_precision"], 0.005, &format!("AP of {label}"));
        }
        same(rankings[label].average_precision(images), &theirs["average_precision"]["value"], "AP alone");
    }
    let supported = || supported.iter().map(|label| counts[*label]);
    let micro: LabelCounts = supported().sum();
    for (name, of) in
        [("precision", LabelCounts::precision as fn(_) -> _), ("recall", LabelCounts::recall), ("f1", LabelCounts::f1)]
    {
        same(mean(supported().map(of)), &case["macro"][name], &format!("macro {name}"));
        same(of(micro), &case["micro"][name], &format!("micro {name}"));
    }
    agrees(precisions.mean, &case["macro"]["average_precision"], 0.005, "mAP");
    agrees(precisions.pooled, &case["micro"]["average_precision"], 0.005, "micro AP");
}

#[test]
fn intervals_do_not_depend_on_the_number_of_threads() {
    let rankings = [Ranking::of((0..50).map(|image| ((image * 7 % 11) as f64, image, image % 3 == 0)))];
    let with = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| average_precisions(&rankings, &rankings[0], 50, 320, 1).mean)
    };
    assert_eq!(with(1), with(3));
}

proptest! {
    #[test]
    fn average_precision_depends_on_the_order_alone(
        items in prop::collection::vec((-5i32..5, any::<bool>()), 1..60), shift in 0usize..60,
    ) {
        let n = items.len();
        let rank = |score: fn(i32) -> f64, shift: usize| {
            let items = items.iter().enumerate().map(|(image, (value, is))| (score(*value), image, *is));
            let items: Vec<_> = items.collect();
            Ranking::of(items.iter().cycle().skip(shift).take(n).copied()).average_precision(n)
        };
        let plain = rank(f64::from, 0);
        prop_assert_eq!(plain.is_some(), items.iter().any(|(_, is)| *is));
        prop_assert!(plain.is_none_or(|ap| ap > 0.0 && ap <= 1.0));
        // Neither the order of the images nor an increasing function of the score changes it.
        prop_assert_eq!(plain, rank(f64::from, shift));
        prop_assert_eq!(plain, rank(|value| (f64::from(value) / 2.0).exp(), 0));
        // Scores that say nothing give the share of positives.
        let positives = items.iter().filter(|(_, is)| *is).count();
        let share = positives as f64 / n as f64;
        prop_assert!(rank(|_| 1.0, 0).is_none_or(|ap| (ap - share).abs() < 1e-12));
    }

    #[test]
    fn a_perfect_ranking_has_average_precision_1(positives in 1usize..30, negatives in 0usize..30) {
        let n = positives + negatives;
        let items = (0..n).map(|image| (-(image as f64), image, image < positives));
        prop_assert_eq!(Ranking::of(items).average_precision(n), Some(1.0));
    }
}
