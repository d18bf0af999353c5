//! What runs decided, and the files they left.

use sqlx::SqliteConnection;

use super::{Store, from_json};
use crate::{
    domain::{CoarseId, Counts, DatasetId, ImageId, Judgements, LabelSet, Outcome, RunId, RunStatus, Split, Tally},
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
    /// Under the run's own rule.
    pub judgements: Judgements,
}

/// What is true of the images of a split, in the order of their source ids.
#[derive(Clone, Debug, Default)]
pub struct Truths {
    /// The ids in the annotations, ascending.
    pub source_ids: Vec<i64>,
    /// The images.
    pub images: Vec<ImageId>,
    /// All of their fine labels.
    pub labels: Vec<LabelSet>,
    /// Their categories.
    pub coarse: Vec<CoarseId>,
}

impl Store {
    /// What is true of every image of a split of a data set. `Train` and `Validation` both mean the images of train.
    pub async fn truths(&self, dataset: DatasetId, split: Split) -> Result<Truths> {
        let split = split.of_dataset();
        let rows = sqlx::query!(
            r#"select id, source_id, coarse as "coarse: u16",
                      (select json_group_array(fine) from image_label where image_id = image.id) as "labels!: String"
               from image where dataset_id = ? and split = ? order by source_id"#,
            dataset.0,
            split
        )
        .fetch_all(&self.reader)
        .await?;
        let mut truths = Truths::default();
        for row in rows {
            truths.source_ids.push(row.source_id);
            truths.images.push(ImageId(row.id));
            truths.labels.push(from_json("image_label.fine", &row.labels)?);
            truths.coarse.push(CoarseId(row.coarse));
        }
        Ok(truths)
    }

    /// What was right about each image of a split under the run's own rule.
    pub async fn judgements(&self, run: RunId, split: Split) -> Result<Judgements> {
        let word = split.as_str();
        let row = sqlx::query!(
            r#"select coalesce(bytes, x'') as "bytes!: Vec<u8>", ftct is not null as "fine!: bool"
               from tally left join judgements using (run_id, split) where run_id = ? and split = ?"#,
            run.0,
            word
        )
        .fetch_optional(&self.reader)
        .await?
        .ok_or_else(|| Error::Conflict(format!("run {run} has no outcomes: only a succeeded run has")))?;
        Judgements::new(row.bytes, row.fine)
            .ok_or_else(|| Error::internal("the column judgements.bytes holds none", format!("run {run}, {split}")))
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
            .await?;
        match row {
            Some(row) => Ok(Artifact { kind, path: self.data_dir.join(row.path), sha256: row.sha256 }),
            None => Err(self.no_artifact(run, kind).await?),
        }
    }

    /// Why a run has no such file.
    async fn no_artifact(&self, run: RunId, kind: ArtifactKind) -> Result<Error> {
        let what = match kind {
            ArtifactKind::ScoresTest => "scores of the test images",
            ArtifactKind::ScoresValidation => "scores of the validation images",
            ArtifactKind::Weights => "weights",
        };
        let why = match self.run(run).await?.status {
            RunStatus::Succeeded => {
                "it is synthetic, and was recorded without them: `twograin bench populate` makes no weights, and no scores where \
                 it is called --without-scores"
            }
            RunStatus::Queued | RunStatus::Running | RunStatus::Failed | RunStatus::Canceled => {
                "only a succeeded run has"
            }
        };
        Ok(Error::Conflict(format!("run {run} has no {what}: {why}")))
    }
}

/// Records the outcomes of one split within the transaction that ends the run.
pub(super) async fn insert(connection: &mut SqliteConnection, run: RunId, new: &NewOutcomes) -> Result<()> {
    let (split, bytes) = (new.split.as_str(), new.judgements.bytes());
    sqlx::query!("insert into judgements (run_id, split, bytes) values (?, ?, ?)", run.0, split, bytes)
        .execute(&mut *connection)
        .await?;
    let Tally { images, coarse_correct, counts } = new.judgements.tally();
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
