//! The built-in demo: a drawn data set and its comparison, made as far as they are not there yet.

use std::path::Path;

use jiff::Timestamp;
use tokio::sync::watch;

use crate::{
    dataset::{
        coco::{self, ImportOptions},
        scenes::{self, SceneFiles, ScenesConfig},
    },
    domain::{RunStatus, SingleRun, Taxonomy},
    error::{Error, Result},
    scheduler::Queue,
    services::Activity,
    store::{NewDataset, RunRow, Store},
    training,
};

/// The demo data set's name.
pub const DATASET: &str = "demo";

/// Draws and imports the demo data set and queues the runs of its comparison. What is there already stays as it is, so a
/// demo that was interrupted goes on.
pub async fn prepare(store: Store, queue: Queue, activity: watch::Sender<Option<Activity>>) {
    if let Err(error) = try_prepare(&store, &queue, &activity).await {
        tracing::error!(error = ?error, "the demo could not be prepared");
        let text = format!("The demo could not be prepared: {error}");
        activity.send_replace(Some(Activity { text, fraction: 0.0 }));
    }
}

async fn try_prepare(store: &Store, queue: &Queue, activity: &watch::Sender<Option<Activity>>) -> Result<()> {
    if store.find_dataset(DATASET).await?.is_none() {
        let directory = store.data_dir().join("demo-images");
        let sender = activity.clone();
        let new = tokio::task::spawn_blocking(move || {
            let progress = |done: usize, total: usize| {
                let fraction = done as f64 / total.max(1) as f64;
                sender.send_replace(Some(Activity { text: "Drawing the demo data set".into(), fraction }));
            };
            draw(&directory, &progress)
        })
        .await
        .map_err(|error| Error::internal("the demo data set was not drawn", error))??;
        store.import_dataset(new, Timestamp::now()).await?;
        tracing::info!("the demo data set is there");
    }
    activity.send_replace(None);

    let there = store.all_runs().await?;
    for spec in training::demo_specs(DATASET) {
        // One that failed is tried again; one that somebody canceled is not wanted.
        let same = |run: &RunRow| run.spec_group == spec.group_key() && run.spec.seed == spec.seed;
        if !there.iter().any(|run| same(run) && run.status != RunStatus::Failed) {
            queue.submit(SingleRun { submission: spec.into(), force: false }).await?;
        }
    }
    Ok(())
}

fn draw(directory: &Path, progress: &(dyn Fn(usize, usize) + Sync)) -> Result<NewDataset> {
    // Scenes appear complete or not at all, so what a server that was ended before the import left can be used.
    let files = if directory.exists() {
        SceneFiles::in_directory(directory)
    } else {
        scenes::generate(directory, &ScenesConfig::default(), progress).map_err(|error| {
            Error::internal(format!("the demo data set could not be drawn in {}", directory.display()), error)
        })?
    };
    let imported = coco::import(Taxonomy::coco(), &files.train, &files.test, ImportOptions::default(), &|_| {})
        .map_err(|error| Error::internal("the demo data set could not be imported", error))?;
    let directories = files.train.images.zip(files.test.images);
    Ok(NewDataset { name: DATASET.into(), drawn: true, imported, directories })
}
