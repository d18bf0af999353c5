//! What runs decided, and the files they left.

use sqlx::SqliteConnection;

use super::{Store, from_json, to_json};
use crate::{
    domain::{CoarseId, Counts, FineId, ImageId, LabelSet, Outcome, RunId, Split, Tally},
    error::{Error, Result},
    worker::protocol::{Artifact, ArtifactKind},
};

/// A [`Tally`] as its columns.
pub(super) struct TallyRow {
    pub images: i64,
    pub coarse_correct: i64,
    pub ftct: Option<i64>,
    pub ftcf: Option<i64>,
    pub ffct: Option<i64>,
    pub ffcf: Option<i64>,
}

impl From<TallyRow> for Tally {
    fn from(row: TallyRow) -> Self {
        // The schema says: all four or none, and none negative.
        let counts = row.ftct.zip(row.ftcf).zip(row.ffct.zip(row.ffcf)).map(|((ftct, ftcf), (ffct, ffcf))| {
            let [ftct, ftcf, ffct, ffcf] = [ftct, ftcf, ffct, ffcf].map(i64::unsigned_abs);
            Counts { ftct, ftcf, ffct, ffcf }
        });
        Self { images: row.images.unsigned_abs(), coarse_correct: row.coarse_correct.unsigned_abs(), counts }
    }
}

/// The outcomes of one split, to be recorded.
#[derive(Clone, Debug)]
pub struct NewOutcomes {
    /// `Validation` or `Test`.
    pub split: Split,
    /// Source id, whether fine was right, whether coarse was right, the category decided for.
    pub rows: Vec<(i64, Option<bool>, bool, CoarseId)>,
    /// Their counts.
    pub tally: Tally,
}

/// Which outcomes of a run.
#[derive(Clone, Debug)]
pub struct OutcomeFilter {
    /// `Validation` or `Test`.
    pub split: Split,
    /// This outcome only.
    pub outcome: Option<Outcome>,
    /// Images that truly have this label.
    pub fine: Option<FineId>,
    /// Images of this category.
    pub coarse: Option<CoarseId>,
    /// Images that had this outcome under another run of the same data set.
    pub other: Option<(RunId, Outcome)>,
    /// Images after this one.
    pub after: Option<ImageId>,
    /// At most so many.
    pub limit: u32,
}

/// What a run decided for one image.
#[derive(Clone, Debug)]
pub struct OutcomeRow {
    /// The image.
    pub image: ImageId,
    /// Its id in the annotations.
    pub source_id: i64,
    /// Its file name.
    pub file_name: String,
    /// Its true labels.
    pub labels: LabelSet,
    /// Its true category.
    pub coarse: CoarseId,
    /// Whether the predicted fine set is the true one; `None` for a coarse-only run.
    pub fine_correct: Option<bool>,
    /// Whether the category is right.
    pub coarse_correct: bool,
    /// The category decided for.
    pub predicted_coarse: CoarseId,
}

impl Store {
    /// The true labels and category of every image of a split of the run's data set, by source id. `Train` and
    /// `Validation` both mean the images of train.
    pub async fn truths(&self, run: RunId, split: Split) -> Result<Vec<(i64, LabelSet, CoarseId)>> {
        let split = split.of_dataset();
        let rows = sqlx::query!(
            r#"select image.source_id, image.coarse as "coarse: u16", json_group_array(image_label.fine) as "labels!: String"
               from run
               join image on image.dataset_id = run.dataset_id and image.split = ?
               join image_label on image_label.image_id = image.id
               where run.id = ? group by image.id order by image.source_id"#,
            split,
            run.0
        )
        .fetch_all(&self.reader)
        .await?;
        rows.into_iter()
            .map(|row| Ok((row.source_id, from_json("image_label.fine", &row.labels)?, CoarseId(row.coarse))))
            .collect()
    }

    /// Some images of a split of the run's data set, by their ids in the source: number, id in the source, file name.
    pub async fn images_of(&self, run: RunId, split: Split, ids: &[i64]) -> Result<Vec<(ImageId, i64, String)>> {
        let (split, ids) = (split.of_dataset(), to_json(&ids)?);
        let rows = sqlx::query!(
            "select image.id, image.source_id, image.file_name
             from run
             join image on image.dataset_id = run.dataset_id and image.split = ?
             where run.id = ? and image.source_id in (select value from json_each(?))",
            split,
            run.0,
            ids
        )
        .fetch_all(&self.reader)
        .await?;
        Ok(rows.into_iter().map(|row| (ImageId(row.id), row.source_id, row.file_name)).collect())
    }

    /// Outcomes in the order of the images, and how many match in all.
    pub async fn outcomes(&self, run: RunId, filter: &OutcomeFilter) -> Result<(u64, Vec<OutcomeRow>)> {
        let split = filter.split.as_str();
        let (fine_true, coarse_true) =
            (filter.outcome.map(Outcome::fine_true), filter.outcome.map(Outcome::coarse_true));
        let (fine, coarse) = (filter.fine.map(|fine| fine.0), filter.coarse.map(|coarse| coarse.0));
        let (other, other_outcome) = filter.other.unzip();
        let other = other.map(|run| run.0);
        let (other_fine, other_coarse) =
            (other_outcome.map(Outcome::fine_true), other_outcome.map(Outcome::coarse_true));
        let after = filter.after.map(|image| image.0);
        let total = sqlx::query_scalar!(
            r#"select count(*)
               from outcome join image on image.id = outcome.image_id
               where outcome.run_id = ?1 and outcome.split = ?2
                 and (?3 is null or (outcome.fine_correct = ?3 and outcome.coarse_correct = ?4))
                 and (?5 is null or exists (select 1 from image_label where image_id = outcome.image_id and fine = ?5))
                 and (?6 is null or image.coarse = ?6)
                 and (?7 is null or exists (select 1 from outcome as other
                      where other.run_id = ?7 and other.split = ?2 and other.image_id = outcome.image_id
                        and other.fine_correct = ?8 and other.coarse_correct = ?9))"#,
            run.0,
            split,
            fine_true,
            coarse_true,
            fine,
            coarse,
            other,
            other_fine,
            other_coarse
        )
        .fetch_one(&self.reader)
        .await?;
        let rows = sqlx::query!(
            r#"select image.id, image.source_id, image.file_name, image.coarse as "coarse: u16",
                      (select json_group_array(fine) from image_label where image_id = image.id) as "labels!: String",
                      fine_correct as "fine_correct: bool", coarse_correct as "coarse_correct: bool",
                      predicted_coarse as "predicted_coarse: u16"
               from outcome join image on image.id = outcome.image_id
               where outcome.run_id = ?1 and outcome.split = ?2
                 and (?3 is null or (outcome.fine_correct = ?3 and outcome.coarse_correct = ?4))
                 and (?5 is null or exists (select 1 from image_label where image_id = outcome.image_id and fine = ?5))
                 and (?6 is null or image.coarse = ?6)
                 and (?7 is null or exists (select 1 from outcome as other
                      where other.run_id = ?7 and other.split = ?2 and other.image_id = outcome.image_id
                        and other.fine_correct = ?8 and other.coarse_correct = ?9))
                 and (?10 is null or image.id > ?10)
               order by image.id limit ?11"#,
            run.0,
            split,
            fine_true,
            coarse_true,
            fine,
            coarse,
            other,
            other_fine,
            other_coarse,
            after,
            filter.limit
        )
        .fetch_all(&self.reader)
        .await?;
        let rows = rows
            .into_iter()
            .map(|row| {
                Ok(OutcomeRow {
                    image: ImageId(row.id),
                    source_id: row.source_id,
                    file_name: row.file_name,
                    labels: from_json("image_label.fine", &row.labels)?,
                    coarse: CoarseId(row.coarse),
                    fine_correct: row.fine_correct,
                    coarse_correct: row.coarse_correct,
                    predicted_coarse: CoarseId(row.predicted_coarse),
                })
            })
            .collect::<Result<_>>()?;
        Ok((total.unsigned_abs(), rows))
    }

    /// The counted outcomes of one split.
    pub async fn tally(&self, run: RunId, split: Split) -> Result<Option<Tally>> {
        let split = split.as_str();
        let row = sqlx::query_as!(
            TallyRow,
            "select images, coarse_correct, ftct, ftcf, ffct, ffcf from tally where run_id = ? and split = ?",
            run.0,
            split
        )
        .fetch_optional(&self.reader)
        .await?;
        Ok(row.map(Tally::from))
    }

    /// A file of a succeeded run: its absolute path and hash.
    pub async fn artifact(&self, run: RunId, kind: ArtifactKind) -> Result<Artifact> {
        let word = kind.as_str();
        let row = sqlx::query!("select path, sha256 from artifact where run_id = ? and kind = ?", run.0, word)
            .fetch_optional(&self.reader)
            .await?
            .ok_or_else(|| Error::Conflict(format!("run {run} has no {word}: only a succeeded run has")))?;
        Ok(Artifact { kind, path: self.data_dir.join(row.path), sha256: row.sha256 })
    }
}

/// Records the outcomes of one split within the transaction that ends the run.
pub(super) async fn insert(connection: &mut SqliteConnection, run: RunId, new: &NewOutcomes, rows: &str) -> Result<()> {
    let (split, dataset_split) = (new.split.as_str(), new.split.of_dataset());
    // `cross join` keeps SQLite from scanning the JSON once per image.
    let inserted = sqlx::query!(
        "insert into outcome (run_id, image_id, split, fine_correct, coarse_correct, predicted_coarse)
         select run.id, image.id, ?1, entry.value ->> 1, entry.value ->> 2, entry.value ->> 3
         from run
         cross join json_each(?2) as entry
         cross join image on image.dataset_id = run.dataset_id and image.split = ?4 and image.source_id = entry.value ->> 0
         where run.id = ?3",
        split,
        rows,
        run.0,
        dataset_split
    )
    .execute(&mut *connection)
    .await?
    .rows_affected();
    if inserted != new.rows.len() as u64 {
        return Err(Error::Invalid(format!(
            "the {split} scores name {} images, of which the data set has {inserted}",
            new.rows.len()
        )));
    }
    let Tally { images, coarse_correct, counts } = new.tally;
    let [images, coarse_correct] = [images, coarse_correct].map(u64::cast_signed);
    let [ftct, ftcf, ffct, ffcf] = Outcome::ALL.map(|outcome| counts.map(|counts| counts.get(outcome).cast_signed()));
    sqlx::query!(
        "insert into tally (run_id, split, images, coarse_correct, ftct, ftcf, ffct, ffcf) values (?, ?, ?, ?, ?, ?, ?, ?)",
        run.0,
        split,
        images,
        coarse_correct,
        ftct,
        ftcf,
        ffct,
        ffcf
    )
    .execute(&mut *connection)
    .await?;
    Ok(())
}

/// `[[source_id, fine_correct, coarse_correct, predicted_coarse], …]` with 0 and 1 for no and yes.
pub(super) fn rows_json(new: &NewOutcomes) -> Result<String> {
    let rows: Vec<_> = new
        .rows
        .iter()
        .map(|(id, fine, coarse, predicted)| (id, fine.map(u8::from), u8::from(*coarse), predicted))
        .collect();
    to_json(&rows)
}
