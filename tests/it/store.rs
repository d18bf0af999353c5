//! Data sets, the queue and outcomes in the database.

mod changes;

use jiff::Timestamp;
use twograin::{
    dataset::coco::{Funnel, Imported, ImportedImage, ImportedSplit},
    domain::{
        AttemptId, CoarseId, DatasetId, EpochPoint, FineId, Judgements, Progress, RunId, RunSpec, RunStatus, Split,
        Submission, Taxonomy,
        spec::{Backbone, Objective},
    },
    error::Error,
    scheduler::Executors,
    store::{Ending, NewDataset, NewOutcomes, Store, StoreConfig, Submitted},
    worker::protocol::{Artifact, ArtifactKind, News, WorkerEvent},
};

fn taxonomy() -> Taxonomy {
    let text = r#"{"name":"t","coarse":["a","b"],
        "fine":[{"name":"p","public":true},{"name":"x","parent":"a"},{"name":"y","parent":"b"}]}"#;
    Taxonomy::from_json(text).expect("a valid taxonomy")
}

fn image(source_id: i64, labels: &[u16], coarse: u16) -> ImportedImage {
    ImportedImage {
        source_id,
        file_name: format!("{source_id}.jpg"),
        width: 4,
        height: 3,
        labels: labels.iter().copied().map(FineId).collect(),
        coarse: CoarseId(coarse),
    }
}

fn split(images: Vec<ImportedImage>) -> ImportedSplit {
    let kept = images.len() as u64;
    ImportedSplit { funnel: Funnel { read: kept, kept, ..Funnel::default() }, images }
}

fn new_dataset(name: &str) -> NewDataset {
    let train = split(vec![image(1, &[1], 0), image(2, &[0, 2], 1), image(5_000_000_000, &[2], 1)]);
    // Ids may repeat between the splits.
    let test = split(vec![image(1, &[0, 1], 0), image(2, &[2], 1)]);
    NewDataset {
        name: name.into(),
        drawn: false,
        imported: Imported { taxonomy: taxonomy(), train, test },
        directories: Some(("/images/train".into(), "/images/test".into())),
    }
}

struct Fixture {
    store: Store,
    _directory: tempfile::TempDir,
}

async fn fixture() -> Fixture {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let config = StoreConfig { data_dir: directory.path().into(), database: None };
    let store = Store::open(&config).await.expect("a new store");
    store.import_dataset(new_dataset("d"), Timestamp::now()).await.expect("a first data set");
    Fixture { store, _directory: directory }
}

impl Fixture {
    async fn submit(&self, seed: u64) -> RunId {
        let spec = RunSpec::new("d", Backbone::ResNetTiny, Objective::SigmoidThreshold);
        let spec = spec.with(|fields| fields.seed = seed).expect("a valid specification");
        let dataset = self.store.dataset("d").await.expect("the data set").id;
        self.submit_all(&[(dataset, Submission::from(spec))], true).await[0].run
    }

    async fn submit_all(&self, runs: &[(DatasetId, Submission)], force: bool) -> Vec<Submitted> {
        self.store.submit(runs, force, None, Timestamp::now()).await.expect("submitted").0
    }

    async fn claim(&self) -> Option<(RunId, AttemptId)> {
        let claim = self.store.claim(&[], (Executors::default(), |_, _: &_| 3), "hash", Timestamp::now()).await;
        let claim = claim.expect("claiming works");
        claim.map(|claim| (claim.run, claim.attempt))
    }

    async fn status(&self, run: RunId) -> RunStatus {
        self.store.run(run).await.expect("the run").status
    }
}

fn conflict<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
    match result {
        Err(Error::Conflict(text)) => text,
        other => panic!("a conflict was expected, not {other:?}"),
    }
}

#[tokio::test]
async fn a_data_set_comes_back_as_it_went_in() {
    let Fixture { store, _directory } = fixture().await;
    let row = store.dataset("d").await.unwrap();
    let data = store.training_data(row.id).await.unwrap();
    let ids = |samples: &[twograin::dataset::Sample]| samples.iter().map(|sample| sample.source_id).collect::<Vec<_>>();
    assert_eq!((ids(&data.train), ids(&data.test)), (vec![1, 2, 5_000_000_000], vec![1, 2]));
    assert_eq!(data.train[1].path, std::path::Path::new("/images/train/2.jpg"));
    assert_eq!(data.train[1].labels.as_slice(), [FineId(0), FineId(2)]);
    assert_eq!((data.test[0].coarse, data.taxonomy), (CoarseId(0), taxonomy()));

    let again = conflict(store.import_dataset(new_dataset("d"), Timestamp::now()).await);
    assert!(again.contains("there is a data set “d” already"), "{again}");
    let bad = store.import_dataset(new_dataset("a/b"), Timestamp::now()).await;
    assert!(matches!(bad, Err(Error::Invalid(_))));
    assert_eq!(store.datasets().await.unwrap().len(), 1);
}

#[tokio::test]
async fn the_fingerprint_is_of_the_test_set_alone() {
    let Fixture { store, _directory } = fixture().await;
    let mut other_train = new_dataset("other-train");
    other_train.imported.train.images.pop();
    let mut other_test = new_dataset("other-test");
    other_test.imported.test.images[0].labels = [FineId(1)].into_iter().collect();
    for new in [other_train, other_test] {
        store.import_dataset(new, Timestamp::now()).await.unwrap();
    }
    let mut fingerprints = Vec::new();
    for name in ["d", "other-train", "other-test"] {
        fingerprints.push(store.dataset(name).await.unwrap().fingerprint);
    }
    assert_eq!(fingerprints[0], fingerprints[1]);
    assert_ne!(fingerprints[0], fingerprints[2]);
}

#[tokio::test]
async fn runs_are_claimed_in_order_of_submission_and_once() {
    let fixture = fixture().await;
    let (first, second) = (fixture.submit(1).await, fixture.submit(2).await);
    assert_eq!(fixture.store.queue_position(second).await.unwrap(), 2);
    assert_eq!(fixture.claim().await.unwrap().0, first);
    assert_eq!(fixture.claim().await.unwrap().0, second);
    assert_eq!(fixture.claim().await, None);
    assert_eq!(fixture.store.run(first).await.unwrap().spec.threads, 3, "threads are resolved when a run starts");
}

#[tokio::test]
async fn a_higher_priority_goes_first_and_equals_by_submission() {
    let fixture = fixture().await;
    let runs = [fixture.submit(1).await, fixture.submit(2).await, fixture.submit(3).await, fixture.submit(4).await];
    let [first, second, third, fourth] = runs;
    for (run, priority) in [(third, 7), (fourth, 7), (first, -100)] {
        fixture.store.prioritize(run, priority.try_into().unwrap()).await.unwrap();
    }
    let mut places = Vec::new();
    for run in runs {
        places.push(fixture.store.queue_position(run).await.unwrap());
    }
    assert_eq!(places, [4, 3, 1, 2]);
    for run in [third, fourth, second, first] {
        assert_eq!(fixture.claim().await.unwrap().0, run);
    }
    let late = conflict(fixture.store.prioritize(first, 3.try_into().unwrap()).await);
    assert!(late.contains("run 1 is running; only a run that waits"), "{late}");
}

#[tokio::test]
async fn a_paused_queue_gives_nothing_out_also_when_the_store_is_opened_again() {
    let fixture = fixture().await;
    let (running, waiting) = (fixture.submit(1).await, fixture.submit(2).await);
    assert_eq!(fixture.claim().await.unwrap().0, running);
    fixture.store.pause_queue(true).await.unwrap();
    assert_eq!(fixture.claim().await, None);
    let config = StoreConfig { data_dir: fixture.store.data_dir().into(), database: None };
    let again = Store::open(&config).await.unwrap();
    assert!(again.queue_paused().await.unwrap());
    let state = again.queue().await.unwrap();
    assert_eq!((state.queued, state.running), (1, 1));
    again.pause_queue(false).await.unwrap();
    assert_eq!(fixture.claim().await.unwrap().0, waiting);
}

#[tokio::test]
async fn a_retried_run_has_all_its_tries_again() {
    let fixture = fixture().await;
    let run = fixture.submit(1).await;
    let now = Timestamp::now();
    assert!(conflict(fixture.store.retry(run).await).contains("run 1 is queued already"));
    for _ in 0..2 {
        for tries in 1..=3 {
            let (_, attempt) = fixture.claim().await.unwrap();
            fixture.store.end(attempt, Ending::Lost("gone".into()), now).await.unwrap();
            let expected = if tries < 3 { RunStatus::Queued } else { RunStatus::Failed };
            assert_eq!(fixture.status(run).await, expected, "after {tries}");
        }
        fixture.store.retry(run).await.unwrap();
        let row = fixture.store.run(run).await.unwrap();
        assert_eq!((row.status, row.error, row.started_at, row.finished_at), (RunStatus::Queued, None, None, None));
    }
    // Canceled while it waited, and wanted after all: nobody asks it to stop any more.
    fixture.store.cancel(run, now).await.unwrap();
    fixture.store.retry(run).await.unwrap();
    let (_, attempt) = fixture.claim().await.unwrap();
    assert!(!fixture.store.run(run).await.unwrap().cancel_requested);
    fixture.store.succeed(attempt, 1, (&[], &[]), now).await.unwrap();
    assert!(conflict(fixture.store.retry(run).await).contains("run 1 has succeeded; clone it instead"));
}

#[tokio::test]
async fn a_specification_that_is_there_is_answered_by_its_run() {
    let fixture = fixture().await;
    let dataset = fixture.store.dataset("d").await.unwrap().id;
    let run = |seed, threads| {
        let spec = RunSpec::new("d", Backbone::ResNetTiny, Objective::SigmoidThreshold);
        (dataset, Submission::from(spec.with(|spec| (spec.seed, spec.threads) = (seed, threads)).unwrap()))
    };
    let numbers = |runs: Vec<Submitted>| runs.iter().map(|one| (one.run.0, one.existing)).collect::<Vec<_>>();
    let submit = async |runs: &[(DatasetId, Submission)]| numbers(fixture.submit_all(runs, false).await);
    // Two of the same are one.
    assert_eq!(submit(&[run(0, 0), run(1, 0), run(0, 0)]).await, [(1, false), (2, false), (1, true)]);
    assert_eq!(submit(&[run(1, 0), run(2, 0)]).await, [(2, true), (3, false)]);
    // A claimed run has 3 threads; whoever leaves them to the machine is answered by it, and who asks for 4 is not.
    let (claimed, attempt) = fixture.claim().await.unwrap();
    assert_eq!(claimed, RunId(1));
    assert_eq!(submit(&[run(0, 0), run(0, 3), run(0, 4)]).await, [(1, true), (1, true), (4, false)]);
    // Asked to stop, it answers for nobody any more; nor does a canceled one.
    for id in [1, 2] {
        fixture.store.cancel(RunId(id), Timestamp::now()).await.unwrap();
    }
    let asked = [run(0, 3), run(1, 0), run(2, 0)];
    assert_eq!(fixture.store.existing(&asked).await.unwrap(), [None, None, Some(RunId(3))]);
    assert_eq!(submit(&asked).await, [(5, false), (6, false), (3, true)]);
    // One that succeeded goes before one that waits.
    fixture.store.end(attempt, Ending::Canceled, Timestamp::now()).await.unwrap();
    let forced = numbers(fixture.submit_all(&[run(2, 0), run(2, 0)], true).await);
    assert_eq!(forced, [(7, false), (7, true)]);
    let (claimed, attempt) = fixture.claim().await.unwrap();
    fixture.store.succeed(attempt, 1, (&[], &[]), Timestamp::now()).await.unwrap();
    assert_eq!((claimed, submit(&[run(2, 0)]).await), (RunId(3), vec![(3, true)]));
}

#[tokio::test]
async fn runs_submitted_together_are_a_sweep_that_goes_with_its_last_run() {
    let fixture = fixture().await;
    let (store, now) = (&fixture.store, Timestamp::now());
    let dataset = store.dataset("d").await.unwrap().id;
    let submit = async |seeds: &[u64]| {
        let spec =
            |seed| RunSpec::new("d", Backbone::ResNetTiny, Objective::SigmoidThreshold).with(|spec| spec.seed = seed);
        let runs: Vec<_> = seeds.iter().map(|seed| (dataset, Submission::from(spec(*seed).unwrap()))).collect();
        store.submit(&runs, false, Some("seeds"), now).await.unwrap().1.map(|sweep| sweep.0)
    };
    assert_eq!(submit(&[1, 2]).await, Some(1));
    // One run is none, however often it is asked for.
    assert_eq!((submit(&[1]).await, submit(&[3, 3]).await), (None, None));
    // Another one with a run of the first; the same runs again are the same sweep.
    assert_eq!((submit(&[2, 3]).await, submit(&[3, 2]).await, submit(&[1, 2]).await), (Some(2), Some(2), Some(1)));
    let of = async |run| store.sweeps_of(RunId(run)).await.unwrap().iter().map(|row| row.id.0).collect::<Vec<_>>();
    assert_eq!((of(1).await, of(2).await, of(3).await), (vec![1], vec![1, 2], vec![2]));
    for (run, left) in [(2, vec![2, 1]), (1, vec![2]), (3, vec![])] {
        store.cancel(RunId(run), now).await.unwrap();
        store.delete_run(RunId(run)).await.unwrap();
        let sweeps = store.sweeps(None, 10).await.unwrap();
        assert_eq!(sweeps.iter().map(|row| row.id.0).collect::<Vec<_>>(), left, "without run {run}");
    }
}

#[tokio::test]
async fn runs_are_submitted_all_or_none() {
    let fixture = fixture().await;
    let there = fixture.store.dataset("d").await.unwrap().id;
    let runs = [(there, "d"), (DatasetId(99), "nowhere")].map(|(id, name)| {
        (id, Submission::from(RunSpec::new(name, Backbone::ResNetTiny, Objective::SigmoidThreshold)))
    });
    assert!(fixture.store.submit(&runs, true, None, Timestamp::now()).await.is_err());
    assert!(fixture.store.all_runs().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_worker_that_lost_its_run_cannot_write_any_more() {
    let fixture = fixture().await;
    let run = fixture.submit(1).await;
    let (_, old) = fixture.claim().await.unwrap();
    assert_eq!(fixture.store.authorise(old, "hash").await.unwrap(), Some(run));
    assert_eq!(fixture.store.authorise(old, "other").await.unwrap(), None);
    let now = Timestamp::now();
    fixture.store.end(old, Ending::Lost("the machine went away".into()), now).await.unwrap();
    assert_eq!(fixture.status(run).await, RunStatus::Queued);
    let (_, new) = fixture.claim().await.unwrap();
    assert_ne!(old, new);

    let news = at(0.5);
    conflict(fixture.store.record(old, &news, now).await);
    conflict(fixture.store.succeed(old, 1, (&[], &[]), now).await);
    conflict(fixture.store.end(old, Ending::Canceled, now).await);
    assert_eq!(fixture.store.authorise(old, "hash").await.unwrap(), None);
    assert!(!fixture.store.record(new, &news, now).await.unwrap());
    assert_eq!(fixture.store.run(run).await.unwrap().progress.unwrap().fraction, 0.5);
}

/// What a worker tells that has done this share of a run.
fn at(fraction: f64) -> News {
    let progress =
        Progress { phase: "training".into(), fraction, loss: None, images_per_second: None, seconds_left: None };
    News { progressed: true, events: vec![WorkerEvent::Progress(progress)] }
}

#[tokio::test]
async fn a_run_is_given_up_after_three_lost_attempts_that_got_no_further() {
    let fixture = fixture().await;
    let run = fixture.submit(1).await;
    let lost = |reason: &str| Ending::Lost(reason.into());
    let stopped = || Ending::Interrupted("the server was stopped".into());
    let attempts = [
        (0.2, lost("1")),
        (0.2, lost("2")),
        // This one got further than all before: it is the first one of its kind.
        (0.3, lost("3")),
        (0.0, lost("4")),
        (0.1, stopped()),
        (0.4, stopped()),
        (0.0, stopped()),
        (0.4, lost("5")),
        (0.1, stopped()),
        (0.3, lost("6")),
        (0.4, lost("7")),
    ];
    for (fraction, ending) in attempts {
        assert_eq!(fixture.status(run).await, RunStatus::Queued, "before {ending:?}");
        let (_, attempt) = fixture.claim().await.unwrap();
        fixture.store.record(attempt, &at(fraction), Timestamp::now()).await.unwrap();
        fixture.store.end(attempt, ending, Timestamp::now()).await.unwrap();
    }
    let row = fixture.store.run(run).await.unwrap();
    assert_eq!(row.status, RunStatus::Failed);
    assert_eq!(row.error.as_deref(), Some("given up after 3 attempts that got no further; the last: 7"));
}

#[tokio::test]
async fn a_claim_that_is_taken_back_leaves_no_trace() {
    let fixture = fixture().await;
    let run = fixture.submit(1).await;
    let (_, attempt) = fixture.claim().await.unwrap();
    fixture.store.unclaim(attempt).await.unwrap();
    let row = fixture.store.run(run).await.unwrap();
    assert_eq!((row.status, row.started_at, row.attempt), (RunStatus::Queued, None, None));
    assert!(fixture.store.attempts(run).await.unwrap().is_empty());
    assert!(fixture.claim().await.is_some());
    conflict(fixture.store.unclaim(AttemptId(99)).await);
}

#[tokio::test]
async fn canceling_ends_a_queued_run_at_once_and_asks_a_running_one() {
    let fixture = fixture().await;
    let (running, queued) = (fixture.submit(1).await, fixture.submit(2).await);
    let (_, attempt) = fixture.claim().await.unwrap();
    let now = Timestamp::now();
    assert_eq!(fixture.store.cancel(queued, now).await.unwrap(), None);
    assert_eq!(fixture.status(queued).await, RunStatus::Canceled);
    assert!(conflict(fixture.store.cancel(queued, now).await).contains("has canceled already"));

    assert_eq!(fixture.store.cancel(running, now).await.unwrap(), Some(attempt));
    assert_eq!(fixture.status(running).await, RunStatus::Running);
    assert!(conflict(fixture.store.delete_run(running).await).contains("cancel it before deleting it"));
    assert!(fixture.store.record(attempt, &News::default(), now).await.unwrap(), "the worker is told");
    // It dies of it, in whatever way: that is a cancelation.
    fixture.store.end(attempt, Ending::Failed("killed".into()), now).await.unwrap();
    let row = fixture.store.run(running).await.unwrap();
    assert_eq!((row.status, row.error), (RunStatus::Canceled, None));
}

#[tokio::test]
async fn outcomes_are_recorded_whole_or_not_at_all() {
    let fixture = fixture().await;
    let store = &fixture.store;
    let run = fixture.submit(1).await;
    let (_, attempt) = fixture.claim().await.unwrap();
    let now = Timestamp::now();
    let point = EpochPoint {
        epoch: 1,
        train_loss: 0.5,
        validation_loss: None,
        validation_ia: Some(0.25),
        validation_coarse_accuracy: None,
        learning_rate: 0.1,
        seconds: 2.0,
    };
    store
        .record(attempt, &News { progressed: true, events: vec![WorkerEvent::Epoch(point.clone())] }, now)
        .await
        .unwrap();
    assert_eq!(store.epochs(run).await.unwrap(), [point]);

    let weights = Artifact { kind: ArtifactKind::Weights, path: "weights.safetensors".into(), sha256: "a".repeat(64) };
    let outcomes =
        || NewOutcomes { split: Split::Test, judgements: Judgements::of(true, [(true, true), (false, true)]) };
    // One split twice: nothing at all is recorded.
    let refused = store.succeed(attempt, 1, (std::slice::from_ref(&weights), &[outcomes(), outcomes()]), now).await;
    assert!(refused.is_err(), "{refused:?}");
    assert_eq!(fixture.status(run).await, RunStatus::Running);
    assert!(store.artifact(run, ArtifactKind::Weights).await.is_err());

    store.succeed(attempt, 1, (&[weights], &[outcomes()]), now).await.unwrap();
    let row = store.run(run).await.unwrap();
    assert_eq!((row.status, row.test.unwrap().counts.unwrap().ftct), (RunStatus::Succeeded, 1));
    let path = store.artifact(run, ArtifactKind::Weights).await.unwrap().path;
    assert_eq!(path, store.data_dir().join("runs/1/attempt-1/weights.safetensors"));

    assert_eq!(store.judgements(run, Split::Test).await.unwrap(), outcomes().judgements);
    assert!(store.judgements(run, Split::Validation).await.is_err());

    // A data set that a run uses stays; without the run it goes.
    assert!(conflict(store.delete_dataset("d").await).contains("1 run uses it"));
    store.delete_run(run).await.unwrap();
    store.delete_dataset("d").await.unwrap();
    assert!(store.all_runs().await.unwrap().is_empty());
}
