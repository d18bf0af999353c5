//! What the handlers of the web layer call: reports, the queue, predictions, image files.

use std::{io::ErrorKind, path::PathBuf};

use serde::Serialize;
use tokio::sync::watch;

use crate::{
    dataset::{decode, transform},
    domain::{ImageId, SavedView},
    error::{Error, Result},
    report::{Listing, Reports},
    store::Store,
    weights::{Library, Listed},
};

mod predictions;

pub use predictions::{Photograph, Predictor};

pub use crate::{
    scheduler::Queue,
    store::{QueueState, Submitted},
};

/// Longer side of a gallery's thumbnail, in pixels.
const THUMBNAIL_SIDE: u32 = 240;
/// Everything that handlers call. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Services {
    /// What pages and API show.
    pub reports: Reports,
    /// Submits, cancels, deletes.
    pub queue: Queue,
    /// Classifies uploads.
    pub predictor: Predictor,
    /// Files of the data sets' images.
    pub images: Images,
    /// Backbone weights to start from.
    pub weights: Weights,
    /// Tags and notes on images, and saved views.
    pub annotations: Annotations,
    /// Something long that the server itself is doing.
    pub activity: watch::Receiver<Option<Activity>>,
}

/// Something long that the server itself is doing, such as drawing the demo data set.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Activity {
    /// What, in words.
    pub text: String,
    /// Share done, 0 to 1.
    pub fraction: f64,
}

/// Backbone weights that runs can start from.
#[derive(Clone, Debug)]
pub struct Weights {
    library: Library,
}

impl Weights {
    /// Those in the data directory of `store`.
    pub fn new(store: &Store) -> Self {
        Self { library: Library::new(store.data_dir()) }
    }

    /// What is installed, and what `twograin weights fetch` would install.
    pub async fn list(&self) -> Result<Listing<Listed>> {
        let library = self.library.clone();
        let listed = tokio::task::spawn_blocking(move || library.list()).await;
        let listed = listed.map_err(|error| Error::internal("the weights were not listed", error))?;
        let items = listed.map_err(|error| Error::internal("the weights were not listed", error))?;
        Ok(Listing { items, next_cursor: None })
    }
}

/// What people say of images, and the views they keep.
#[derive(Clone, Debug)]
pub struct Annotations {
    store: Store,
}

impl Annotations {
    /// Over `store`.
    pub fn new(store: Store) -> Self {
        Self { store }
    }

    /// Gives an image a tag; one that it has already changes nothing.
    pub async fn tag(&self, image: ImageId, tag: &str) -> Result<()> {
        self.store.add_tag(image, &tag.parse().map_err(Error::Invalid)?).await
    }

    /// Takes a tag away; one that it does not have changes nothing.
    pub async fn untag(&self, image: ImageId, tag: &str) -> Result<()> {
        self.store.remove_tag(image, &tag.parse().map_err(Error::Invalid)?).await
    }

    /// Writes the note of an image, at most 4,000 characters; an empty one takes it away.
    pub async fn note(&self, image: ImageId, text: &str) -> Result<()> {
        // A form sends each line end as two characters.
        let text = text.trim().replace("\r\n", "\n");
        if text.contains('\0') {
            return Err(Error::Invalid("text: a note has no NUL characters".into()));
        }
        match text.chars().count() {
            0..=4000 => self.store.set_note(image, &text, &jiff::Timestamp::now().to_string()).await,
            length => Err(Error::Invalid(format!("text: a note has at most 4,000 characters, and this one {length}"))),
        }
    }

    /// The saved views, by name.
    pub async fn views(&self) -> Result<Listing<SavedView>> {
        Ok(Listing { items: self.store.views().await?, next_cursor: None })
    }

    /// Keeps an address of this program under a name, in place of the one that had it.
    pub async fn save_view(&self, name: &str, address: &str) -> Result<SavedView> {
        let name = name.trim();
        if !(1..=80).contains(&name.chars().count()) || name.contains(char::is_control) {
            return Err(Error::Invalid(
                "name: a view's name has 1 to 80 characters, none of them a control character".into(),
            ));
        }
        if !is_local(address) || address.len() > 2000 {
            return Err(Error::Invalid(
                "address: give path and query of a page here, such as /runs/1/images?outcome=FFCT, of at most 2,000 characters"
                    .into(),
            ));
        }
        self.store.save_view(name, address, &jiff::Timestamp::now().to_string()).await
    }

    /// Forgets a view.
    pub async fn delete_view(&self, id: i64) -> Result<()> {
        self.store.delete_view(id).await
    }
}

/// Whether an address stays within this program.
pub fn is_local(address: &str) -> bool {
    let path = address.strip_prefix('/');
    path.is_some_and(|rest| !rest.starts_with(['/', '\\'])) && !address.contains(char::is_control)
}

/// Files of data-set images.
#[derive(Clone, Debug)]
pub struct Images {
    store: Store,
}

impl Images {
    /// Of the data sets in `store`.
    pub fn new(store: Store) -> Self {
        Self { store }
    }

    /// The photograph's path; `NotFound` for unknown ids and data sets of labels only.
    pub async fn file(&self, image: ImageId) -> Result<PathBuf> {
        let row = self.store.image(image).await?;
        row.path.ok_or_else(|| Error::NotFound(format!("image {image} belongs to a data set that has labels only")))
    }

    /// The photograph's content; `NotFound` also where its file is gone.
    pub async fn read(&self, image: ImageId) -> Result<Vec<u8>> {
        tokio::fs::read(self.file(image).await?).await.map_err(|error| match error.kind() {
            ErrorKind::NotFound => {
                Error::NotFound(format!("the file of image {image} is not where it was imported from"))
            }
            _ => Error::internal(format!("image {image} could not be read"), error),
        })
    }

    /// The name of its file.
    pub async fn name(&self, image: ImageId) -> Result<String> {
        Ok(self.store.image(image).await?.file_name)
    }

    /// A JPEG thumbnail, made once and kept in the data directory.
    pub async fn thumbnail(&self, image: ImageId) -> Result<Vec<u8>> {
        let source = self.file(image).await?;
        let directory = self.store.data_dir().join("thumbnails");
        tokio::task::spawn_blocking(move || {
            let file = directory.join(format!("{image}.jpg"));
            match std::fs::read(&file) {
                Ok(bytes) => return Ok(bytes),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(Error::internal(format!("{} cannot be read", file.display()), error)),
            }
            let picture = decode::open(&source).map_err(|error| {
                tracing::debug!(%error, "no thumbnail");
                Error::NotFound(format!("the file of image {image} is not where it was imported from, or damaged"))
            })?;
            let bytes = transform::thumbnail(&picture, THUMBNAIL_SIDE)
                .map_err(|error| Error::internal("a thumbnail was not made", error))?;
            keep(&directory, &file, &bytes)
                .map_err(|error| Error::internal(format!("{} cannot be written", file.display()), error))?;
            Ok(bytes)
        })
        .await
        .map_err(|error| Error::internal("a thumbnail was not made", error))?
    }
}

/// Whole or not at all: another request may read the file meanwhile.
fn keep(directory: &std::path::Path, file: &std::path::Path, bytes: &[u8]) -> std::io::Result<()> {
    std::fs::create_dir_all(directory)?;
    let temporary = tempfile::NamedTempFile::new_in(directory)?;
    std::fs::write(temporary.path(), bytes)?;
    temporary.persist(file).map(drop).map_err(|error| error.error)
}
