//! The data set of the demo: scenes composed of drawings, with COCO's labels, generated offline from a seed.
//!
//! Each scene shows one to three fine labels of one category, sometimes with a person, before a cluttered background, so
//! each is kept by the two-level rule. What is written are JPEG files and two COCO instances files, to be imported like any
//! other data set.

mod background;
mod drawings;
mod scene;

use std::{
    fs::{self, File},
    io::{self, BufWriter, ErrorKind, Write},
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
};

use rayon::prelude::*;
use serde::Serialize;

use super::{
    coco::CocoSource,
    random::{Purpose, stream},
};
use crate::domain::Taxonomy;
use scene::{Composer, Object};

/// What to generate.
#[derive(Clone, Copy, Debug)]
pub struct ScenesConfig {
    /// Scenes to learn from.
    pub train: usize,
    /// Scenes to test on.
    pub test: usize,
    /// Width and height of a scene, in pixels: 32 to 1024.
    pub side: u32,
    /// Another seed gives other scenes; the same one gives the same bytes.
    pub seed: u64,
}

impl Default for ScenesConfig {
    fn default() -> Self {
        Self { train: 3000, test: 600, side: 96, seed: 0 }
    }
}

/// Where the scenes are, ready for [`super::coco::import`] under [`Taxonomy::coco`].
#[derive(Clone, Debug)]
pub struct SceneFiles {
    /// The scenes to learn from.
    pub train: CocoSource,
    /// The scenes to test on.
    pub test: CocoSource,
}

impl SceneFiles {
    /// The files of a generated `directory`.
    pub fn in_directory(directory: &Path) -> Self {
        let source =
            |split| CocoSource { annotations: annotations(directory, split), images: Some(directory.join(split)) };
        Self { train: source("train"), test: source("test") }
    }
}

fn annotations(directory: &Path, split: &str) -> PathBuf {
    directory.join(format!("instances_{split}.json"))
}

/// Generates scenes into `directory`, which must not exist or be empty. It appears complete or not at all. `progress`
/// receives the scenes done and their total, from several threads.
///
/// # Errors
/// The directory has something in it, cannot be written, or the configuration's side is out of range.
pub fn generate(
    directory: &Path,
    config: &ScenesConfig,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> io::Result<SceneFiles> {
    if !(32..=1024).contains(&config.side) {
        let message = format!("a scene's side of {} pixels is outside 32 to 1024", config.side);
        return Err(io::Error::new(ErrorKind::InvalidInput, message));
    }
    if fs::read_dir(directory).is_ok_and(|mut entries| entries.next().is_some()) {
        let message = format!("{} is not empty", directory.display());
        return Err(io::Error::new(ErrorKind::AlreadyExists, message));
    }
    let parent = directory.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(parent)?;
    // Deletes itself whatever happens; the scenes are moved out of it when they are complete.
    let workplace = tempfile::Builder::new().prefix(".scenes-").tempdir_in(parent)?;
    let unfinished = workplace.path().join("scenes");
    fs::create_dir(&unfinished)?;

    let coco = Taxonomy::coco();
    let composer = Composer::new(&coco, config.side)?;
    let total = config.train + config.test;
    let done = AtomicUsize::new(0);
    progress(0, total);
    for (number, (split, count)) in (0..).zip([("train", config.train), ("test", config.test)]) {
        let images = unfinished.join(split);
        fs::create_dir(&images)?;
        let scene = |index: usize| {
            let mut rng = stream(Purpose::Scene, config.seed, number, index as u64);
            let scene = composer.compose(&mut rng).map_err(io::Error::other)?;
            fs::write(images.join(file_name(index)), scene.jpeg)?;
            progress(done.fetch_add(1, Ordering::Relaxed) + 1, total);
            Ok(scene.objects)
        };
        let objects = (0..count).into_par_iter().map(scene).collect::<io::Result<Vec<_>>>()?;
        write_instances(&annotations(&unfinished, split), &coco, config.side, &objects)?;
    }
    fs::rename(&unfinished, directory)?;
    Ok(SceneFiles::in_directory(directory))
}

fn file_name(index: usize) -> String {
    format!("{:06}.jpg", index + 1)
}

#[derive(Serialize)]
struct Instances<'a> {
    images: Vec<ImageEntry>,
    annotations: Vec<AnnotationEntry>,
    categories: Vec<CategoryEntry<'a>>,
}

#[derive(Serialize)]
struct ImageEntry {
    id: usize,
    file_name: String,
    width: u32,
    height: u32,
}

#[derive(Serialize)]
struct AnnotationEntry {
    id: usize,
    image_id: usize,
    category_id: u16,
    bbox: [u32; 4],
    area: u32,
    iscrowd: u8,
}

#[derive(Serialize)]
struct CategoryEntry<'a> {
    id: u16,
    name: &'a str,
    supercategory: &'a str,
}

/// Writes the `objects` of each scene as a COCO instances file. Ids count from 1; a category's is its label's index + 1.
fn write_instances(path: &Path, coco: &Taxonomy, side: u32, objects: &[Vec<Object>]) -> io::Result<()> {
    let images = (0..objects.len())
        .map(|index| ImageEntry { id: index + 1, file_name: file_name(index), width: side, height: side })
        .collect();
    let placed =
        objects.iter().enumerate().flat_map(|(image, objects)| objects.iter().map(move |object| (image, object)));
    let annotations = (1..)
        .zip(placed)
        .map(|(id, (image, object))| AnnotationEntry {
            id,
            image_id: image + 1,
            category_id: object.label.0 + 1,
            bbox: object.bbox,
            area: object.area,
            iscrowd: 0,
        })
        .collect();
    let categories = (1..)
        .zip(coco.fine())
        .map(|(id, label)| CategoryEntry {
            id,
            name: &label.name,
            supercategory: label.parent.map_or("person", |coarse| coco.coarse_name(coarse)),
        })
        .collect();
    let mut file = BufWriter::new(File::create(path)?);
    serde_json::to_writer(&mut file, &Instances { images, annotations, categories })?;
    file.flush()
}
