//! What is taken on disk.

use super::{Reports, RunBrief};
use crate::{error::Result, store::DiskUsage};

impl Reports {
    /// What the program's own files take, all together.
    pub async fn disk(&self) -> Result<DiskUsage> {
        self.store.disk_usage().await
    }

    /// Adds to each of these runs what its files take.
    pub(super) async fn with_disk(&self, mut briefs: Vec<RunBrief>) -> Result<Vec<RunBrief>> {
        let sizes = self.store.disk_bytes(briefs.iter().map(|brief| brief.id).collect()).await?;
        briefs.iter_mut().zip(sizes).for_each(|(brief, bytes)| brief.disk_bytes = Some(bytes));
        Ok(briefs)
    }

    /// The same of one run.
    pub(super) async fn with_its_disk(&self, mut brief: RunBrief) -> Result<RunBrief> {
        brief.disk_bytes = self.store.disk_bytes(vec![brief.id]).await?.first().copied();
        Ok(brief)
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
