//! The queue as workers see it.

use jiff::Timestamp;

use super::{Queue, dispatch::hash, results};
use crate::{
    domain::{AttemptId, RunId},
    error::{Error, Result},
    evaluation::FeatureCache,
    store::Ending,
    training::{CheckpointFiles, Files},
    worker::protocol::{Completion, Hello, Job, News, Reply},
};

impl Queue {
    /// The run of the attempt that `token` belongs to, if it still holds it.
    pub async fn authorise(&self, attempt: AttemptId, token: &str) -> Result<Option<RunId>> {
        self.store.authorise(attempt, &hash(token)).await
    }

    /// What a worker is to do.
    pub async fn job(&self, attempt: AttemptId, run: RunId, worker: &Hello) -> Result<Job> {
        self.store.introduce(attempt, &worker.handle, Some(&worker.host)).await?;
        self.shared.contacts.seen(attempt, true);
        let row = self.store.run(run).await?;
        let directory = self.store.attempt_directory(attempt).await?;
        let features = FeatureCache {
            directory: self.store.data_dir().join("cache/features"),
            limit_bytes: self.shared.settings.feature_cache_bytes,
        };
        let initial_weights = row.spec.initial_weights.as_ref().and_then(|name| self.library().locate(name));
        let (own, earlier) = self.store.checkpoints(attempt).await?;
        let checkpoints = CheckpointFiles { directory: own, earlier, every: self.shared.settings.checkpoint_every };
        let files = Files { initial_weights, features: Some(features), checkpoints: Some(checkpoints) };
        self.changed(run);
        Ok(Job { run, spec: row.spec, directory, data: self.store.training_data(row.dataset_id).await?, files })
    }

    /// Records what a worker tells. That it is there is not written each time: whoever watches it does so.
    pub async fn record(&self, attempt: AttemptId, run: RunId, news: &News) -> Result<Reply> {
        self.shared.contacts.seen(attempt, news.progressed);
        if news.events.is_empty() {
            return Ok(Reply { cancel: self.shared.contacts.get(attempt).cancel });
        }
        let cancel = self.store.record(attempt, news, Timestamp::now()).await?;
        self.changed(run);
        Ok(Reply { cancel })
    }

    /// Records how an attempt ended, by its worker's word and what it left.
    pub async fn complete(&self, attempt: AttemptId, run: RunId, completion: Completion) -> Result<()> {
        let now = Timestamp::now();
        match completion {
            Completion::Succeeded { epoch, artifacts } => {
                match results::outcomes(&self.store, attempt, run, &artifacts).await {
                    Ok(outcomes) => {
                        self.store.succeed(attempt, epoch, (&artifacts, &outcomes), now).await?;
                        self.store.drop_checkpoints(attempt).await?;
                    }
                    Err(error @ (Error::Invalid(_) | Error::NotFound(_))) => {
                        self.store.end(attempt, Ending::Failed(error.to_string()), now).await?;
                    }
                    Err(error @ (Error::Conflict(_) | Error::Busy(_) | Error::Internal { .. })) => return Err(error),
                }
            }
            Completion::Failed { error } => self.store.end(attempt, Ending::Failed(error), now).await?,
            Completion::Lost { reason } => self.store.end(attempt, Ending::Lost(reason), now).await?,
            Completion::Canceled => self.store.end(attempt, Ending::Canceled, now).await?,
            Completion::Released { reason } => self.store.end(attempt, Ending::Interrupted(reason), now).await?,
        }
        self.shared.contacts.told(attempt);
        self.store.drop_messages(attempt).await?;
        self.changed(run);
        Ok(())
    }
}
