//! In which order a list comes, as `sort=` says it.

use std::{cmp::Ordering, fmt};

use serde::{Deserialize, Serialize};

/// What a list can be sorted by.
pub trait Column: Copy + Eq + 'static {
    /// All of them, in the order in which they are offered.
    const ALL: &'static [Self];

    /// As `sort=` names it.
    fn as_str(self) -> &'static str;
}

/// A column, and from which end: its name, with `-` in front for the largest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String", bound(serialize = "C: Column", deserialize = "C: Column"))]
pub struct Sort<C> {
    /// The column.
    pub by: C,
    /// The largest first.
    pub descending: bool,
}

/// As it is parsed.
impl<C: Column> fmt::Display for Sort<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.descending { "-" } else { "" }, self.by.as_str())
    }
}

impl<C: Column> From<Sort<C>> for String {
    fn from(sort: Sort<C>) -> Self {
        sort.to_string()
    }
}

impl<C: Column> TryFrom<String> for Sort<C> {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let (name, descending) = text.strip_prefix('-').map_or((text.as_str(), false), |name| (name, true));
        let by = C::ALL.iter().find(|column| column.as_str() == name);
        by.map(|by| Self { by: *by, descending }).ok_or_else(|| {
            let columns = Vec::from_iter(C::ALL.iter().map(|column| column.as_str())).join(", ");
            format!("sort: “{text}” is not a column; they are {columns}, with - in front for the largest first")
        })
    }
}

/// The first `limit` of `rows` in an `order`, of those that come after one of them, if one is given; and whether there are
/// more. No two rows may be equal in the order.
pub(super) fn first_of(
    mut rows: Vec<usize>,
    after: Option<usize>,
    limit: usize,
    order: impl Fn(&usize, &usize) -> Ordering,
) -> (Vec<usize>, bool) {
    if let Some(after) = after {
        rows.retain(|row| order(row, &after).is_gt());
    }
    let more = rows.len() > limit;
    if more {
        rows.select_nth_unstable_by(limit, &order);
        rows.truncate(limit);
    }
    rows.sort_unstable_by(order);
    (rows, more)
}
