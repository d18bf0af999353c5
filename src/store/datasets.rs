//! Data sets and their images.

use std::path::PathBuf;

use jiff::Timestamp;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::{Store, from_json, to_json};
use crate::{
    dataset::{
        Sample, TrainingData,
        coco::{Funnel, Imported, ImportedImage},
    },
    domain::{CoarseId, DatasetId, ImageId, LabelSet, Split, Taxonomy},
    error::{Error, Result},
};

/// A data set to be recorded.
#[derive(Clone, Debug)]
pub struct NewDataset {
    /// Unique; letters, digits, `-`, `_` and `.`.
    pub name: String,
    /// Drawn, not photographed.
    pub drawn: bool,
    /// What the importer found.
    pub imported: Imported,
    /// Where train and test images are; `None` for a data set of labels only.
    pub directories: Option<(PathBuf, PathBuf)>,
}

/// A data set as recorded.
#[derive(Clone, Debug)]
pub struct DatasetRow {
    /// Its number.
    pub id: DatasetId,
    /// Its name.
    pub name: String,
    /// Drawn, not photographed.
    pub drawn: bool,
    /// Has no images.
    pub labels_only: bool,
    /// Its taxonomy.
    pub taxonomy: Taxonomy,
    /// What became of the images of the train annotations.
    pub train_funnel: Funnel,
    /// What became of the images of the test annotations.
    pub test_funnel: Funnel,
    /// Of the test set.
    pub fingerprint: String,
    /// RFC 3339.
    pub created_at: String,
    /// How many runs use it.
    pub runs: u64,
}

impl NewDataset {
    /// Of the test set: the same labels and images give the same one, whatever the data set is called.
    pub fn fingerprint(&self) -> String {
        fingerprint(&self.imported.taxonomy, &self.imported.test.images)
    }
}

/// An image's file.
#[derive(Clone, Debug)]
pub struct ImageRow {
    /// The file; `None` in a data set of labels only.
    pub path: Option<PathBuf>,
    /// Its name.
    pub file_name: String,
}

impl Store {
    /// Refuses a name that a new data set cannot have, before any work is done for it.
    pub async fn check_new_name(&self, name: &str) -> Result<()> {
        check_name(name)?;
        match self.find_dataset(name).await? {
            Some(_) => Err(taken(name)),
            None => Ok(()),
        }
    }

    /// Records an imported data set, wholly or not at all.
    pub async fn import_dataset(&self, new: NewDataset, now: Timestamp) -> Result<DatasetId> {
        check_name(&new.name)?;
        let fingerprint = new.fingerprint();
        let NewDataset { name, drawn, imported, directories } = new;
        let taxonomy = to_json(&imported.taxonomy)?;
        let (train_funnel, test_funnel) = (to_json(&imported.train.funnel)?, to_json(&imported.test.funnel)?);
        let (train_images, test_images) = (images_json(&imported.train.images)?, images_json(&imported.test.images)?);
        let directory = |path: &PathBuf| -> Result<String> {
            let path = std::path::absolute(path).map_err(|error| Error::internal("a relative path stays so", error))?;
            path.into_os_string()
                .into_string()
                .map_err(|path| Error::Invalid(format!("the images' directory {} is not valid UTF-8", path.display())))
        };
        let train_directory = directories.as_ref().map(|(train, _)| directory(train)).transpose()?;
        let test_directory = directories.as_ref().map(|(_, test)| directory(test)).transpose()?;
        let labels_only = directories.is_none();
        let created_at = now.to_string();

        let mut transaction = self.writer.begin_with("begin immediate").await?;
        let inserted = sqlx::query_scalar!(
            "insert into dataset (name, drawn, labels_only, taxonomy, train_directory, test_directory, train_funnel, test_funnel,
                                  fingerprint, created_at)
             values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
             on conflict (name) do nothing
             returning id",
            name,
            drawn,
            labels_only,
            taxonomy,
            train_directory,
            test_directory,
            train_funnel,
            test_funnel,
            fingerprint,
            created_at
        )
        .fetch_optional(&mut *transaction)
        .await?;
        let id = inserted.ok_or_else(|| taken(&name))?;
        for (split, images) in [("train", train_images), ("test", test_images)] {
            sqlx::query!(
                "insert into image (dataset_id, split, source_id, file_name, width, height, coarse)
                 select ?, ?, value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4 from json_each(?)",
                id,
                split,
                images
            )
            .execute(&mut *transaction)
            .await?;
            // `cross join` keeps SQLite from scanning the JSON once per image.
            sqlx::query!(
                "insert into image_label (image_id, fine)
                 select image.id, label.value
                 from json_each(?) as entry
                 cross join image on image.dataset_id = ? and image.split = ? and image.source_id = entry.value ->> 0
                 cross join json_each(entry.value, '$[5]') as label",
                images,
                id,
                split
            )
            .execute(&mut *transaction)
            .await?;
        }
        transaction.commit().await?;
        Ok(DatasetId(id))
    }

    /// All data sets, newest first.
    pub async fn datasets(&self) -> Result<Vec<DatasetRow>> {
        let names = sqlx::query_scalar!("select name from dataset order by id desc").fetch_all(&self.reader).await?;
        let mut rows = Vec::with_capacity(names.len());
        for name in names {
            rows.extend(self.find_dataset(&name).await?);
        }
        Ok(rows)
    }

    /// The data set of this name.
    pub async fn dataset(&self, name: &str) -> Result<DatasetRow> {
        self.find_dataset(name).await?.ok_or_else(|| Error::NotFound(format!("there is no data set “{name}”")))
    }

    /// The data set of this name, if there is one.
    pub async fn find_dataset(&self, name: &str) -> Result<Option<DatasetRow>> {
        let row = sqlx::query!(
            r#"select id, name, drawn as "drawn: bool", labels_only as "labels_only: bool", taxonomy, train_funnel, test_funnel,
                      fingerprint, created_at,
                      (select count(*) from run where run.dataset_id = dataset.id) as "runs!: i64"
               from dataset where name = ?"#,
            name
        )
        .fetch_optional(&self.reader)
        .await?;
        let Some(row) = row else { return Ok(None) };
        Ok(Some(DatasetRow {
            id: DatasetId(row.id),
            name: row.name,
            drawn: row.drawn,
            labels_only: row.labels_only,
            taxonomy: from_json("dataset.taxonomy", &row.taxonomy)?,
            train_funnel: from_json("dataset.train_funnel", &row.train_funnel)?,
            test_funnel: from_json("dataset.test_funnel", &row.test_funnel)?,
            fingerprint: row.fingerprint,
            created_at: row.created_at,
            runs: row.runs.unsigned_abs(),
        }))
    }

    /// Deletes a data set that no run uses. The images' files stay.
    pub async fn delete_dataset(&self, name: &str) -> Result<()> {
        let dataset = self.dataset(name).await?;
        let mut transaction = self.writer.begin_with("begin immediate").await?;
        let runs = sqlx::query_scalar!("select count(*) from run where dataset_id = ?", dataset.id.0)
            .fetch_one(&mut *transaction)
            .await?;
        if runs > 0 {
            let them = if runs == 1 {
                "1 run uses it; delete it".to_owned()
            } else {
                format!("{runs} runs use it; delete them")
            };
            return Err(Error::Conflict(format!("the data set “{name}” stays: {them} first")));
        }
        sqlx::query!("delete from dataset where id = ?", dataset.id.0).execute(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Everything a run needs of a data set, in the order of the images' ids.
    pub async fn training_data(&self, dataset: DatasetId) -> Result<TrainingData> {
        let row =
            sqlx::query!("select name, taxonomy, train_directory, test_directory from dataset where id = ?", dataset.0)
                .fetch_one(&self.reader)
                .await?;
        let (Some(train_directory), Some(test_directory)) = (row.train_directory, row.test_directory) else {
            return Err(labels_only(&row.name));
        };
        let taxonomy = from_json("dataset.taxonomy", &row.taxonomy)?;
        let (mut train, mut test) = (Vec::new(), Vec::new());
        let images = sqlx::query!(
            r#"select image.split, image.source_id, image.file_name, image.coarse as "coarse: u16",
                      json_group_array(image_label.fine) as "labels!: String"
               from image join image_label on image_label.image_id = image.id
               where image.dataset_id = ? group by image.id order by image.split, image.source_id"#,
            dataset.0
        )
        .fetch_all(&self.reader)
        .await?;
        for image in images {
            let (directory, samples) = match super::word(&image.split)? {
                Split::Test => (&test_directory, &mut test),
                Split::Train | Split::Validation => (&train_directory, &mut train),
            };
            samples.push(Sample {
                source_id: image.source_id,
                path: PathBuf::from(directory).join(&image.file_name),
                labels: from_json("image_label.fine", &image.labels)?,
                coarse: CoarseId(image.coarse),
            });
        }
        Ok(TrainingData { taxonomy, train, test })
    }

    /// The file of an image.
    pub async fn image(&self, image: ImageId) -> Result<ImageRow> {
        let row = sqlx::query!(
            r#"select image.file_name, iif(image.split = 'test', test_directory, train_directory) as "directory: String"
               from image join dataset on dataset.id = image.dataset_id where image.id = ?"#,
            image.0
        )
        .fetch_optional(&self.reader)
        .await?
        .ok_or_else(|| Error::NotFound(format!("there is no image {image}")))?;
        let path = row.directory.map(|directory| PathBuf::from(directory).join(&row.file_name));
        Ok(ImageRow { path, file_name: row.file_name })
    }
}

/// Why a data set without images is not trained on.
pub fn labels_only(name: &str) -> Error {
    Error::Conflict(format!(
        "the data set “{name}” has labels only and cannot be trained on; import it with --train-images and --test-images"
    ))
}

fn taken(name: &str) -> Error {
    Error::Conflict(format!(
        "there is a data set “{name}” already; choose another name, or delete it with `twograin dataset delete {name}`"
    ))
}

fn check_name(name: &str) -> Result<()> {
    let fits = (1..=80).contains(&name.len())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
        && name.starts_with(|c: char| c.is_ascii_alphanumeric());
    fits.then_some(()).ok_or_else(|| {
        Error::Invalid(format!(
            "“{name}” is no name for a data set: use 1 to 80 letters, digits, “-”, “_” and “.”, a letter or digit first"
        ))
    })
}

/// `[[source_id, file_name, width, height, coarse, [fine, …]], …]`
fn images_json(images: &[ImportedImage]) -> Result<String> {
    let entries: Vec<_> = images
        .iter()
        .map(|image| json!([image.source_id, image.file_name, image.width, image.height, image.coarse, image.labels]))
        .collect();
    to_json(&entries)
}

/// SHA-256 over the taxonomy's labels and every test image's id, category and labels, in the order of the ids.
fn fingerprint(taxonomy: &Taxonomy, test: &[ImportedImage]) -> String {
    let mut hash = Sha256::new();
    let mut field = |text: &str| {
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text);
    };
    for label in taxonomy.fine() {
        field(&label.name);
        field(label.parent.map_or("", |parent| taxonomy.coarse_name(parent)));
    }
    let mut images: Vec<(i64, CoarseId, &LabelSet)> = test.iter().map(|i| (i.source_id, i.coarse, &i.labels)).collect();
    images.sort_unstable_by_key(|(id, ..)| *id);
    for (id, coarse, labels) in images {
        field(&id.to_string());
        field(taxonomy.coarse_name(coarse));
        labels.iter().for_each(|fine| field(taxonomy.fine_name(fine)));
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
