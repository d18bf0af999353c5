//! Two hundred things at random, always the same ones.

use std::{collections::BTreeMap, thread, time::Duration};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use reqwest::blocking::Client;
use serde_json::{Value, json};

use super::{is_sound, left, report, short, signal, until};
use crate::support::{Launch, TestServer};

/// What was done to a run.
#[derive(Default)]
struct Run {
    seed: u64,
    canceled: bool,
    deleted: bool,
}

#[test]
fn after_two_hundred_submissions_cancels_kills_and_restarts_every_run_is_accounted_for() {
    let launch = Launch::with(&["--slots", "cpu=2", "--patience", "3", "--lost-after", "5"]);
    let mut server = TestServer::with_scenes_and(launch);
    let mut random = ChaCha8Rng::seed_from_u64(5);
    let mut runs: BTreeMap<i64, Run> = BTreeMap::new();
    for step in 0..200 {
        // Drawn whatever there is to choose from: what is done does not depend on how far the runs are.
        let [any, worker] = [(); 2].map(|()| random.random::<u32>() as usize);
        let any = runs.keys().nth(any % runs.len().max(1)).copied();
        let workers = server.workers();
        let worker = workers.get(worker % workers.len().max(1)).copied();
        let post = |path: &str| {
            let (status, answer) = server.post(path, &Value::Null);
            assert!(status < 300 || [404, 409].contains(&status), "step {step}, {path}: {status} {answer}");
            status < 300
        };
        // A worker may end by itself meanwhile.
        let send = |name: &str| drop(worker.map(|worker| std::panic::catch_unwind(|| signal(name, worker))));
        match (random.random_range(0..100), any) {
            (0..40, _) | (_, None) => {
                let seed = random.random_range(0..3);
                let mut body = short(seed);
                body["epochs"] = 8.into();
                body["force"] = random.random_bool(0.7).into();
                body["priority"] = random.random_range(-3..4).into();
                let (status, answer) = server.post("/api/v1/runs", &body);
                assert!([200, 201].contains(&status), "step {step}: {answer}");
                let run = answer["id"].as_i64().unwrap();
                assert_eq!(runs.contains_key(&run), answer["existing"] == true, "step {step}: {answer}");
                runs.entry(run).or_insert(Run { seed, ..Run::default() });
            }
            (40..50, Some(run)) => {
                runs.get_mut(&run).unwrap().canceled |= post(&format!("/api/v1/runs/{run}/cancel"));
            }
            (50..56, Some(run)) => drop(post(&format!("/api/v1/runs/{run}/retry"))),
            (56..60, Some(run)) => {
                // One that has ended, if any has: others are refused.
                let (_, listing) = server.get("/api/v1/runs?limit=500");
                let ended = |run: &&Value| !["queued", "running"].contains(&run["status"].as_str().unwrap());
                let run = listing["items"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .find(ended)
                    .map_or(run, |run| run["id"].as_i64().unwrap());
                let (status, answer) = server.send(Client::new().delete(format!("{}/api/v1/runs/{run}", server.url)));
                assert!([204, 404, 409].contains(&status), "step {step}: {answer}");
                runs.get_mut(&run).unwrap().deleted |= status == 204;
            }
            (60..72, _) => send("-KILL"),
            (72..76, _) => send("-STOP"),
            (76..82, _) => send("-TERM"),
            (82..91, _) => server = server.crash_and_restart(),
            (91..95, _) => server = server.interrupt_and_restart(),
            (95.., _) => drop(post(["/api/v1/queue/pause", "/api/v1/queue/resume"][random.random_range(0..2)])),
            (..0, _) => unreachable!("a number from 0 to 99"),
        }
        thread::sleep(Duration::from_millis(random.random_range(0..400)));
    }
    server.post("/api/v1/queue/resume", &Value::Null);
    let (deleted, kept): (BTreeMap<_, _>, BTreeMap<_, _>) = runs.into_iter().partition(|(_, run)| run.deleted);
    assert!(kept.len() > 20 && !deleted.is_empty(), "{} kept, {} deleted", kept.len(), deleted.len());
    let mut ends = BTreeMap::new();
    let mut weights = BTreeMap::new();
    for (id, run) in &kept {
        let report = server.wait(*id);
        let status = report["status"].as_str().unwrap().to_owned();
        match status.as_str() {
            "succeeded" => {
                let left = left(&server, *id);
                assert!(*weights.entry(run.seed).or_insert_with(|| left.clone()) == left, "{report:#}");
            }
            "canceled" => assert!(run.canceled, "nobody canceled it: {report:#}"),
            "failed" => {
                let error = report["error"].as_str().unwrap();
                assert!(error.starts_with("given up after 3 attempts that got no further"), "{report:#}");
            }
            other => panic!("{other}: {report:#}"),
        }
        // None ran twice at once.
        let attempts = report["attempts"].as_array().unwrap();
        for (before, after) in attempts.iter().zip(attempts.iter().skip(1)) {
            assert!(before["ended_at"].as_str().unwrap() <= after["started_at"].as_str().unwrap(), "{report:#}");
        }
        *ends.entry(status).or_insert(0) += 1;
    }
    for id in deleted.keys() {
        assert_eq!(report(&server, *id)["status"], 404);
        assert!(!server.data.path().join(format!("runs/{id}")).exists());
    }
    println!("{ends:?}, {} deleted", deleted.len());
    assert!(ends["succeeded"] > 10, "{ends:?}");
    let (_, queue) = server.get("/api/v1/queue");
    assert_eq!(queue, json!({"paused": false, "queued": 0, "running": 0}));
    until("a worker is left over", || server.workers().is_empty().then_some(()));
    is_sound(server.data.path());
}
