//! How values are written on pages. Undefined is “–”.
//!
//! Each is a plain function and, under the same name in [`as_filters`], a template filter.

use crate::{
    domain::{
        RunStatus,
        spec::{Backbone, Objective},
    },
    report::{self, Figure},
};

/// What is undefined.
pub const UNDEFINED: &str = "–";
const THIN_SPACE: char = '\u{202f}';

/// An index or an accuracy, three decimals.
pub fn index(value: Option<f64>) -> String {
    value.filter(|value| value.is_finite()).map_or_else(|| UNDEFINED.into(), |value| format!("{value:.3}"))
}

/// How many times as often: “3.21 ×”, “14 ×”.
pub fn times(value: f64) -> String {
    let decimals = if value < 10.0 { 2 } else { 0 };
    format!("{value:.decimals$}{THIN_SPACE}×")
}

/// A figure of the paper, four decimals as printed there.
pub fn printed(value: Option<f64>) -> String {
    value.map_or_else(|| UNDEFINED.into(), |value| format!("{value:.4}"))
}

/// What is known of a figure's uncertainty: its interval, or the spread over a group; empty if neither.
pub fn interval(figure: &Figure) -> String {
    match (figure.low, figure.high, figure.spread) {
        (Some(low), Some(high), _) => format!("[{low:.3}, {high:.3}]"),
        (_, _, Some(spread)) => format!("± {spread:.3}"),
        (_, _, None) => String::new(),
    }
}

/// A difference of indices, three decimals with its sign: “+0.012”, “−0.300”.
pub fn difference(value: Option<f64>) -> String {
    let Some(value) = value.filter(|value| value.is_finite()) else { return UNDEFINED.into() };
    match format!("{:.3}", value.abs()) {
        zero if zero == "0.000" => zero,
        digits if value < 0.0 => format!("−{digits}"),
        digits => format!("+{digits}"),
    }
}

/// The interval of a difference: “[−0.030, +0.012]”; empty without one.
pub fn difference_interval(figure: &Figure) -> String {
    let ends = figure.low.zip(figure.high);
    ends.map_or_else(String::new, |(low, high)| format!("[{}, {}]", difference(Some(low)), difference(Some(high))))
}

/// The p of a test: “0.034”, “< 0.001”.
pub fn p_value(p: f64) -> String {
    if p < 0.001 { format!("<{THIN_SPACE}0.001") } else { format!("{p:.3}") }
}

/// A loss or a learning rate: four significant digits.
pub fn number(value: Option<f64>) -> String {
    let Some(value) = value.filter(|value| value.is_finite()) else { return UNDEFINED.into() };
    if value != 0.0 && !(1e-4..1e6).contains(&value.abs()) {
        return format!("{value:.2e}");
    }
    let before_point = if value.abs() < 1.0 { 0 } else { value.abs().log10() as usize + 1 };
    format!("{value:.*}", 4usize.saturating_sub(before_point))
}

/// A number with its sign, two decimals: “+4.10”, “−0.12”.
pub fn signed(value: f64) -> String {
    let digits = format!("{:.2}", value.abs());
    match digits.as_str() {
        "0.00" => digits,
        _ if value < 0.0 => format!("−{digits}"),
        _ => format!("+{digits}"),
    }
}

/// A probability: “0.93”, “< 0.01”.
pub fn probability(value: f64) -> String {
    if value > 0.0 && value < 0.005 { "<\u{202f}0.01".into() } else { format!("{value:.2}") }
}

/// A count with thin spaces: “58 107”.
pub fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() * 2);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(THIN_SPACE);
        }
        text.push(digit);
    }
    text
}

/// A share as a percentage without decimals: “62 %”.
pub fn percent(share: f64) -> String {
    format!("{:.0}{THIN_SPACE}%", share * 100.0)
}

/// A speed: whole numbers where they say enough.
pub fn rate(value: f64) -> String {
    if value < 10.0 { format!("{value:.1}") } else { count(value.round() as u64) }
}

/// A part of a whole as a CSS percentage: “62.5%”. 0 of 0 is 0.
pub fn width(part: f64, whole: f64) -> String {
    let share = if whole > 0.0 { (part / whole).clamp(0.0, 1.0) } else { 0.0 };
    format!("{:.2}%", share * 100.0)
}

/// A span of time: “48 s”, “3 min 20 s”, “2 h 05 min”.
pub fn duration(seconds: f64) -> String {
    let seconds = seconds.max(0.0).round() as u64;
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, seconds) => format!("{minutes} min {seconds:02} s"),
        (hours, minutes, _) => format!("{hours} h {minutes:02} min"),
    }
}

/// A moment (RFC 3339) to the minute: “2025-06-01 12:30 UTC”.
pub fn moment(rfc3339: &str) -> String {
    rfc3339
        .parse::<jiff::Timestamp>()
        .map_or_else(|_| rfc3339.to_owned(), |moment| moment.strftime("%Y-%m-%d %H:%M UTC").to_string())
}

/// A time of day of a moment (RFC 3339): “12:30:59”.
pub fn clock(rfc3339: &str) -> String {
    rfc3339
        .parse::<jiff::Timestamp>()
        .map_or_else(|_| rfc3339.to_owned(), |moment| moment.strftime("%H:%M:%S").to_string())
}

/// An objective in words.
pub fn mode(objective: Objective) -> &'static str {
    match objective {
        Objective::CoarseOnly => "coarse only",
        Objective::TopKSoftmax => "top-k softmax",
        Objective::SigmoidThreshold => "sigmoid threshold",
    }
}

/// The symbol beside a status, so that colour is not all that tells.
pub fn status_symbol(status: RunStatus) -> &'static str {
    match status {
        RunStatus::Queued => "◌",
        RunStatus::Running => "◐",
        RunStatus::Succeeded => "✓",
        RunStatus::Failed => "✗",
        RunStatus::Canceled => "–",
    }
}

/// One value of a query or a path segment, percent-encoded.
pub fn encoded(text: &str) -> String {
    askama::filters::urlencode_strict(text).map_or_else(|_| String::new(), |encoded| encoded.to_string())
}

/// The colour of a backbone's family wherever backbones are drawn: a custom property of the style sheet. Its name always
/// stands beside it.
pub fn backbone_colour(backbone: &Backbone) -> &'static str {
    match backbone {
        Backbone::VggTiny | Backbone::Vgg16 => "var(--series-1)",
        Backbone::ResNetTiny | Backbone::ResNet34 => "var(--series-2)",
        Backbone::DenseNetTiny | Backbone::DenseNet121 => "var(--series-3)",
        Backbone::EfficientNetLite0 | Backbone::EfficientNetLite0Timm => "var(--series-4)",
    }
}

/// An address: `path` with those parts of the query that have a value.
pub fn address(path: &str, query: &[(&str, Option<&str>)]) -> String {
    let parts: Vec<String> =
        query.iter().filter_map(|(name, value)| Some(format!("{name}={}", encoded((*value)?)))).collect();
    if parts.is_empty() { path.to_owned() } else { format!("{path}?{}", parts.join("&")) }
}

/// The same with the fields of a query that have a value.
pub fn address_of(path: &str, query: &impl serde::Serialize) -> String {
    // A query is a flat struct of words, numbers and truth values.
    let fields = match serde_json::to_value(query) {
        Ok(serde_json::Value::Object(fields)) => fields,
        Ok(_) | Err(_) => serde_json::Map::new(),
    };
    let words = |value: &serde_json::Value| match value {
        serde_json::Value::Null => None,
        serde_json::Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    };
    let fields: Vec<(&str, Option<String>)> = fields.iter().map(|(name, value)| (&**name, words(value))).collect();
    let query: Vec<(&str, Option<&str>)> = fields.iter().map(|(name, value)| (*name, value.as_deref())).collect();
    address(path, &query)
}

/// A template hands over a value behind one reference or several, as its expression happens to be compiled.
pub trait AnyDepth<T: ?Sized> {
    /// The value itself.
    fn value(&self) -> &T;
}

impl<T: ?Sized, V: AnyDepth<T> + ?Sized> AnyDepth<T> for &V {
    fn value(&self) -> &T {
        (**self).value()
    }
}

macro_rules! any_depth {
    ($($owner:ty => $value:ty,)+) => {
        $(impl AnyDepth<$value> for $owner {
            fn value(&self) -> &$value {
                self
            }
        })+
    };
}

any_depth! {
    Option<f64> => Option<f64>,
    f64 => f64,
    u64 => u64,
    usize => usize,
    str => str,
    String => str,
    Figure => Figure,
    Objective => Objective,
    RunStatus => RunStatus,
}

macro_rules! as_filters {
    ($($name:ident: $input:ty => $with:expr;)+) => {
        /// The functions above for templates, which pass references.
        pub mod as_filters {
            use super::*;
            $(
                #[doc = concat!("See [`super::", stringify!($name), "`].")]
                #[askama::filter_fn]
                pub fn $name(value: impl AnyDepth<$input>, _: &dyn askama::Values) -> askama::Result<String> {
                    let function = $with;
                    Ok(String::from(function(value.value())))
                }
            )+
        }
    };
}

as_filters! {
    index: Option<f64> => |value: &Option<f64>| super::index(*value);
    fraction: f64 => |value: &f64| super::index(Some(*value));
    times: f64 => |value: &f64| super::times(*value);
    printed: Option<f64> => |value: &Option<f64>| super::printed(*value);
    interval: Figure => super::interval;
    difference: Option<f64> => |value: &Option<f64>| super::difference(*value);
    difference_interval: Figure => super::difference_interval;
    p_value: f64 => |value: &f64| super::p_value(*value);
    number: Option<f64> => |value: &Option<f64>| super::number(*value);
    decimal: f64 => |value: &f64| super::number(Some(*value));
    signed: f64 => |value: &f64| super::signed(*value);
    probability: f64 => |value: &f64| super::probability(*value);
    count: u64 => |value: &u64| super::count(*value);
    bytes: u64 => |value: &u64| report::bytes_words(*value);
    size: usize => |value: &usize| super::count(*value as u64);
    percent: f64 => |value: &f64| super::percent(*value);
    rate: f64 => |value: &f64| super::rate(*value);
    share: f64 => |value: &f64| super::width(*value, 1.0);
    duration: f64 => |value: &f64| super::duration(*value);
    moment: str => super::moment;
    clock: str => super::clock;
    mode: Objective => |value: &Objective| super::mode(*value);
    status_symbol: RunStatus => |value: &RunStatus| super::status_symbol(*value);
    encoded: str => super::encoded;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn undefined_is_a_dash() {
        assert_eq!(
            (index(None), number(Some(f64::NAN)), interval(&Figure::default())),
            ("–".into(), "–".into(), "".into())
        );
    }

    #[test]
    fn numbers_have_the_digits_that_matter() {
        assert_eq!(number(Some(0.71234)), "0.7123");
        assert_eq!(number(Some(2.51238)), "2.512");
        assert_eq!(number(Some(12345.6)), "12346");
        assert_eq!(number(Some(1e-5)), "1.00e-5");
        assert_eq!(number(Some(0.0)), "0.0000");
        assert_eq!(count(1_234_567), "1\u{202f}234\u{202f}567");
        assert_eq!(count(100), "100");
        assert_eq!((signed(4.1), signed(-0.123), signed(-0.004)), ("+4.10".into(), "−0.12".into(), "0.00".into()));
        let differences = [Some(0.0124), Some(-0.3), Some(-0.0001), None].map(difference);
        assert_eq!(differences, ["+0.012", "−0.300", "0.000", "–"]);
        assert_eq!((p_value(0.0341), p_value(0.0004)), ("0.034".into(), "<\u{202f}0.001".into()));
        assert_eq!((probability(0.001), probability(0.0)), ("<\u{202f}0.01".into(), "0.00".into()));
        assert_eq!(
            (times(3.214), times(0.046), times(13.7)),
            ("3.21\u{202f}×".into(), "0.05\u{202f}×".into(), "14\u{202f}×".into())
        );
        assert_eq!((width(1.0, 8.0), width(1.0, 0.0)), ("12.50%".into(), "0.00%".into()));
    }

    #[test]
    fn times_are_read_at_a_glance() {
        assert_eq!(duration(200.4), "3 min 20 s");
        assert_eq!(duration(7500.0), "2 h 05 min");
        assert_eq!(moment("2025-06-01T12:30:59.123Z"), "2025-06-01 12:30 UTC");
        assert_eq!(moment("yesterday"), "yesterday");
    }

    #[test]
    fn addresses_leave_out_what_has_no_value() {
        assert_eq!(address("/runs", &[("dataset", Some("a&b c")), ("status", None)]), "/runs?dataset=a%26b%20c");
        assert_eq!(address("/runs", &[("status", None)]), "/runs");
        let query = crate::report::OutcomeQuery {
            fine: Some("a b".into()),
            k: Some(2),
            threshold: None,
            differs: Some(true),
            split: Some(crate::domain::Split::Validation),
            ..Default::default()
        };
        assert_eq!(address_of("/x", &query), "/x?differs=true&fine=a%20b&k=2&split=validation");
        assert_eq!(address_of("/x", &crate::report::OutcomeQuery::default()), "/x");
    }

    #[test]
    fn an_interval_or_a_spread() {
        let figure = Figure { value: Some(0.62), low: Some(0.58), high: Some(0.66), ..Figure::default() };
        assert_eq!(interval(&figure), "[0.580, 0.660]");
        assert_eq!(interval(&Figure { spread: Some(0.012), ..Figure::default() }), "± 0.012");
    }
}
