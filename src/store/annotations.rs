//! Tags and notes on images, and saved views.

use sqlx::SqliteConnection;

use super::{Store, from_json, to_json};
use crate::{
    domain::{DatasetId, ImageId, SavedView, Tag},
    error::{Error, Result},
};

/// An image as lists show it.
#[derive(Clone, Debug)]
pub struct ListedImage {
    /// Its file name.
    pub file_name: String,
    /// Its tags, in alphabetical order.
    pub tags: Vec<String>,
    /// What somebody wrote about it.
    pub note: Option<String>,
}

impl Store {
    /// File names, tags and notes of `images`, in their order.
    pub async fn listed(&self, images: &[ImageId]) -> Result<Vec<ListedImage>> {
        let ids = to_json(&images)?;
        let rows = sqlx::query!(
            r#"select image.file_name, note.text as "note?",
                      (select json_group_array(tag order by tag) from image_tag where image_id = image.id) as "tags!: String"
               from json_each(?) as entry
               cross join image on image.id = entry.value
               left join image_note as note on note.image_id = image.id
               order by entry.key"#,
            ids
        )
        .fetch_all(&self.reader)
        .await?;
        if rows.len() != images.len() {
            return Err(Error::Conflict("the data set was deleted meanwhile".into()));
        }
        rows.into_iter()
            .map(|row| {
                Ok(ListedImage {
                    file_name: row.file_name,
                    tags: from_json("image_tag.tag", &row.tags)?,
                    note: row.note,
                })
            })
            .collect()
    }

    /// The images of a data set that have a tag.
    pub async fn tagged(&self, dataset: DatasetId, tag: &Tag) -> Result<Vec<ImageId>> {
        let tag = tag.as_str();
        let ids = sqlx::query_scalar!(
            "select image.id from image_tag cross join image on image.id = image_tag.image_id
             where image_tag.tag = ? and image.dataset_id = ?",
            tag,
            dataset.0
        );
        Ok(ids.fetch_all(&self.reader).await?.into_iter().map(ImageId).collect())
    }

    /// The images of a data set that have a note.
    pub async fn noted(&self, dataset: DatasetId) -> Result<Vec<ImageId>> {
        let ids = sqlx::query_scalar!(
            "select image.id from image_note cross join image on image.id = image_note.image_id
             where image.dataset_id = ?",
            dataset.0
        );
        Ok(ids.fetch_all(&self.reader).await?.into_iter().map(ImageId).collect())
    }

    /// The tags in use on a data set's images, in alphabetical order.
    pub async fn tags(&self, dataset: DatasetId) -> Result<Vec<String>> {
        Ok(sqlx::query_scalar!(
            "select distinct tag from image_tag join image on image.id = image_tag.image_id
             where image.dataset_id = ? order by tag",
            dataset.0
        )
        .fetch_all(&self.reader)
        .await?)
    }

    /// Gives an image a tag; one that it has already changes nothing.
    pub async fn add_tag(&self, image: ImageId, tag: &Tag) -> Result<()> {
        let tag = tag.as_str();
        let mut writer = self.writer.begin().await?;
        exists(&mut writer, image).await?;
        sqlx::query!("insert into image_tag (image_id, tag) values (?, ?) on conflict do nothing", image.0, tag)
            .execute(&mut *writer)
            .await?;
        Ok(writer.commit().await?)
    }

    /// Takes a tag away; one that it does not have changes nothing.
    pub async fn remove_tag(&self, image: ImageId, tag: &Tag) -> Result<()> {
        let tag = tag.as_str();
        let mut writer = self.writer.begin().await?;
        exists(&mut writer, image).await?;
        sqlx::query!("delete from image_tag where image_id = ? and tag = ?", image.0, tag)
            .execute(&mut *writer)
            .await?;
        Ok(writer.commit().await?)
    }

    /// Writes the note of an image; an empty one takes it away.
    pub async fn set_note(&self, image: ImageId, text: &str, now: &str) -> Result<()> {
        let mut writer = self.writer.begin().await?;
        exists(&mut writer, image).await?;
        if text.is_empty() {
            sqlx::query!("delete from image_note where image_id = ?", image.0).execute(&mut *writer).await?;
        } else {
            sqlx::query!(
                "insert into image_note (image_id, text, updated_at) values (?1, ?2, ?3)
                 on conflict do update set text = ?2, updated_at = ?3",
                image.0,
                text,
                now
            )
            .execute(&mut *writer)
            .await?;
        }
        Ok(writer.commit().await?)
    }

    /// The saved views, by name.
    pub async fn views(&self) -> Result<Vec<SavedView>> {
        Ok(sqlx::query_as!(SavedView, "select id, name, address, created_at from saved_view order by name")
            .fetch_all(&self.reader)
            .await?)
    }

    /// Keeps a view under a name, in place of the one that had it.
    pub async fn save_view(&self, name: &str, address: &str, now: &str) -> Result<SavedView> {
        Ok(sqlx::query_as!(
            SavedView,
            "insert into saved_view (name, address, created_at) values (?1, ?2, ?3)
             on conflict do update set address = ?2, created_at = ?3
             returning id, name, address, created_at",
            name,
            address,
            now
        )
        .fetch_one(&self.writer)
        .await?)
    }

    /// Forgets a view.
    pub async fn delete_view(&self, id: i64) -> Result<()> {
        let deleted = sqlx::query!("delete from saved_view where id = ?", id).execute(&self.writer).await?;
        match deleted.rows_affected() {
            0 => Err(Error::NotFound(format!("there is no saved view {id}"))),
            _ => Ok(()),
        }
    }
}

async fn exists(connection: &mut SqliteConnection, image: ImageId) -> Result<()> {
    sqlx::query_scalar!("select id from image where id = ?", image.0)
        .fetch_optional(&mut *connection)
        .await?
        .map(drop)
        .ok_or_else(|| Error::NotFound(format!("there is no image {image}")))
}
