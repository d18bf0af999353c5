//! Revisions: what changed since when.

use jiff::Timestamp;
use twograin::{
    domain::{EpochPoint, Progress, RunId},
    store::{Change, Ending},
    worker::protocol::{News, WorkerEvent},
};

use super::{Fixture, fixture};

impl Fixture {
    async fn latest(&self) -> i64 {
        self.store.clock().await.expect("a clock").latest
    }

    /// Runs that changed after a revision, and whether they are no more.
    async fn changed(&self, after: i64) -> Vec<(RunId, bool)> {
        let changes = self.store.changes(after, None, 1000).await.expect("changes");
        assert!(changes.is_sorted_by(|a, b| a.revision < b.revision), "{changes:?}");
        changes.iter().map(|change| (change.run, change.deleted)).collect()
    }
}

#[tokio::test]
async fn every_change_of_a_run_has_the_next_revision() {
    let fixture = fixture().await;
    let now = Timestamp::now();
    let mut latest = fixture.latest().await;
    let mut step = async |what: &str, expected: &[(RunId, bool)]| {
        assert_eq!(fixture.changed(latest).await, expected, "{what}");
        let next = fixture.latest().await;
        assert_eq!(next > latest, !expected.is_empty(), "{what}");
        latest = next;
    };
    let (a, b) = (fixture.submit(1).await, fixture.submit(2).await);
    step("submitted", &[(a, false), (b, false)]).await;
    let (_, attempt) = fixture.claim().await.unwrap();
    step("claimed", &[(a, false)]).await;
    let progress = Progress {
        phase: "epoch 1 of 2".into(),
        fraction: 0.25,
        loss: Some(1.0),
        images_per_second: None,
        seconds_left: None,
    };
    fixture
        .store
        .record(attempt, &News { progressed: true, events: vec![WorkerEvent::Progress(progress)] }, now)
        .await
        .unwrap();
    step("gets on", &[(a, false)]).await;
    let point = EpochPoint {
        epoch: 1,
        train_loss: 1.0,
        validation_loss: None,
        validation_ia: None,
        validation_coarse_accuracy: None,
        learning_rate: 0.1,
        seconds: 1.0,
    };
    for _ in 0..2 {
        fixture
            .store
            .record(attempt, &News { progressed: true, events: vec![WorkerEvent::Epoch(point.clone())] }, now)
            .await
            .unwrap();
        step("has an epoch", &[(a, false)]).await;
    }
    fixture.store.record(attempt, &News::default(), now).await.unwrap();
    step("is merely alive", &[]).await;
    fixture.store.cancel(a, now).await.unwrap();
    step("is asked to stop", &[(a, false)]).await;
    fixture.store.cancel(b, now).await.unwrap();
    fixture.store.end(attempt, Ending::Canceled, now).await.unwrap();
    step("ended", &[(b, false), (a, false)]).await;
    fixture.store.delete_run(b).await.unwrap();
    step("deleted", &[(b, true)]).await;
    assert_eq!(fixture.changed(0).await, [(a, false), (b, true)]);
    let of_b = fixture.store.changes(0, Some(b), 10).await.unwrap();
    assert_eq!(of_b, [Change { revision: fixture.latest().await, run: b, deleted: true }]);
}

#[tokio::test]
async fn only_the_last_deletions_are_remembered_and_it_is_known_which() {
    let fixture = fixture().await;
    let come_and_go = async || {
        let run = fixture.submit(1).await;
        fixture.store.cancel(run, Timestamp::now()).await.unwrap();
        fixture.store.delete_run(run).await.unwrap();
    };
    come_and_go().await;
    let first = fixture.latest().await;
    assert_eq!(fixture.store.clock().await.unwrap().forgotten, 0);
    // As many as are remembered, made by hand.
    let database = fixture._directory.path().join("twograin.db");
    let pool = sqlx::SqlitePool::connect(&format!("sqlite://{}", database.display())).await.unwrap();
    sqlx::query(
        "with recursive number (n) as (select 1 union all select n + 1 from number where n < 9999)
         insert into deleted_run (revision, run_id) select ? + n, 1000000 + n from number",
    )
    .bind(first)
    .execute(&pool)
    .await
    .unwrap();
    sqlx::query("update revision set value = value + 9999").execute(&pool).await.unwrap();
    come_and_go().await;
    let clock = fixture.store.clock().await.unwrap();
    assert_eq!(clock.forgotten, first, "the first one is forgotten");
    assert_eq!(fixture.store.changes(0, None, 20_000).await.unwrap().len(), 10_000);
}
