//! What is taken on disk.

use super::{Reports, RunBrief, reports::brief};
use crate::{
    error::{Error, Result},
    store::{DiskUsage, RunRow},
};

impl Reports {
    /// What the program's own files take, all together.
    pub async fn disk(&self) -> Result<DiskUsage> {
        self.store.disk_usage().await
    }

    /// Runs as they stand in lists, with what their files take: asked for where that was not known when they were read (to measure a run is no
    /// change of it).
    pub(super) async fn with_disk(&self, rows: &[&RunRow]) -> Result<Vec<RunBrief>> {
        let unmeasured = rows.iter().filter(|row| row.disk_bytes.is_none()).map(|row| row.id).collect::<Vec<_>>();
        let looked_at = if unmeasured.is_empty() { Vec::new() } else { self.store.disk_bytes(&unmeasured).await? };
        let mut looked_at = looked_at.into_iter();
        let with = |row: &&RunRow| RunBrief { disk_bytes: row.disk_bytes.or_else(|| looked_at.next()), ..brief(*row) };
        Ok(rows.iter().map(with).collect())
    }

    /// The same of one run.
    pub(super) async fn with_its_disk(&self, row: &RunRow) -> Result<RunBrief> {
        let briefs = self.with_disk(&[row]).await?;
        briefs.into_iter().next().ok_or_else(|| Error::internal("a run was not listed", row.id.to_string()))
    }
}

/// A size in words: “0 bytes”, “812 kB”, “1.1 GB”. Steps of 1000, as disks are sold.
pub fn bytes_words(bytes: u64) -> String {
    let units = [("GB", 1_000_000_000), ("MB", 1_000_000), ("kB", 1000)];
    let fits = |&(_, size): &(&str, u64)| bytes >= size;
    match units.into_iter().find(fits) {
        None => format!("{bytes} bytes"),
        // Rounded up it could be ten, which has no decimal.
        Some((unit, size)) if bytes < 10 * size - size / 20 => format!("{:.1} {unit}", bytes as f64 / size as f64),
        Some((unit, size)) => format!("{:.0} {unit}", bytes as f64 / size as f64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_written_with_two_digits_or_more() {
        let sizes = [0, 999, 1000, 9_949, 9_960, 812_400, 1_074_000_000, 53_700_000_000];
        let words = ["0 bytes", "999 bytes", "1.0 kB", "9.9 kB", "10 kB", "812 kB", "1.1 GB", "54 GB"];
        assert_eq!(sizes.map(bytes_words), words.map(String::from));
    }
}
