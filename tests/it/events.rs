//! Server-sent events: who was away is told what changed, and nobody is told wrongly.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader},
    sync::mpsc::{self, Receiver},
    thread,
    time::Duration,
};

use reqwest::blocking::Client;
use serde_json::{Value, json};

use crate::support::TestServer;

/// An open stream of events.
struct Events {
    received: Receiver<Event>,
    /// The latest id.
    id: String,
}

struct Event {
    kind: String,
    data: Value,
    id: Option<String>,
}

impl Events {
    fn open(server: &TestServer, path: &str, heard: Option<&str>) -> Self {
        let client = Client::builder().timeout(None).build().unwrap();
        let mut request = client.get(format!("{}{path}", server.url));
        if let Some(heard) = heard {
            request = request.header("last-event-id", heard);
        }
        let response = request.send().unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let (sender, received) = mpsc::channel();
        thread::spawn(move || {
            let mut event = Event { kind: String::new(), data: Value::Null, id: None };
            for line in BufReader::new(response).lines().map_while(Result::ok) {
                match line.split_once(':').map(|(name, value)| (name, value.trim_start())) {
                    Some(("event", kind)) => event.kind = kind.into(),
                    Some(("data", data)) => event.data = serde_json::from_str(data).unwrap(),
                    Some(("id", id)) => event.id = Some(id.into()),
                    Some(_) => {}
                    None => {
                        let done =
                            std::mem::replace(&mut event, Event { kind: "".into(), data: Value::Null, id: None });
                        if sender.send(done).is_err() {
                            return;
                        }
                    }
                }
            }
        });
        let mut events = Self { received, id: String::new() };
        if events.next().kind == "missed" {
            events.id = "missed".into();
        }
        events
    }

    /// The next event about runs. Ids must not go backwards.
    fn next(&mut self) -> Event {
        let event = self.received.recv_timeout(Duration::from_secs(60)).expect("an event");
        if event.kind == "activity" {
            return self.next();
        }
        if let Some(id) = &event.id {
            assert!(revision(id) >= revision(&self.id), "{} was followed by {id}", self.id);
            self.id = id.clone();
        }
        event
    }

    /// What is told until nothing comes for a moment: runs with their states, in order.
    fn told(&mut self) -> Vec<(i64, String)> {
        let mut told = Vec::new();
        while let Ok(event) = self.received.recv_timeout(Duration::from_millis(400)) {
            match event.kind.as_str() {
                "run" => told.push((event.data["id"].as_i64().unwrap(), event.data["status"].as_str().unwrap().into())),
                "deleted" => told.push((event.data.as_i64().unwrap(), "deleted".into())),
                kind => assert_eq!(kind, "activity"),
            }
        }
        told
    }
}

fn revision(id: &str) -> i64 {
    id.split_once('-').map_or(0, |(_, revision)| revision.parse().unwrap())
}

fn body(seed: u64) -> Value {
    json!({"dataset": "scenes", "backbone": "resnet-tiny", "objective": "coarse-only", "input_size": 32, "batch_size": 16,
        "epochs": 10_000, "seed": seed})
}

fn cancel(server: &TestServer, run: i64) {
    assert_eq!(server.post(&format!("/api/v1/runs/{run}/cancel"), &Value::Null).0, 202);
    assert_eq!(server.wait(run)["status"], "canceled");
}

fn delete(server: &TestServer, run: i64) {
    let (status, _) = server.send(Client::new().delete(format!("{}/api/v1/runs/{run}", server.url)));
    assert_eq!(status, 204);
}

fn pairs(expected: &[(i64, &str)]) -> Vec<(i64, String)> {
    expected.iter().map(|(run, status)| (*run, (*status).into())).collect()
}

#[test]
fn who_was_away_is_told_each_change_once_in_order_also_after_a_crash() {
    let server = TestServer::with_scenes();
    let [a, b, c, d] = [1, 2, 3, 4].map(|seed| server.submit(&body(seed)));
    // The first one would change all the time.
    cancel(&server, a);
    let before = Events::open(&server, "/api/v1/events", None).id;
    for run in [b, c, d] {
        cancel(&server, run);
    }
    let middle = Events::open(&server, "/api/v1/events", None).id;
    assert!(revision(&middle) > revision(&before));
    delete(&server, c);
    let e = server.submit(&body(5));
    cancel(&server, e);

    let all = pairs(&[(b, "canceled"), (d, "canceled"), (c, "deleted"), (e, "canceled")]);
    let tell = |server: &TestServer, heard: &str| Events::open(server, "/api/v1/events", Some(heard)).told();
    assert_eq!(tell(&server, &before), all);
    assert_eq!(tell(&server, &middle), all[2..]);
    let server = server.crash_and_restart();
    assert_eq!(tell(&server, &before), all);
    // The address says it as well; the header, which is newer, comes first.
    let path = format!("/api/v1/events?last_event_id={before}");
    assert_eq!(Events::open(&server, &path, None).told(), all);
    let mut events = Events::open(&server, &path, Some(&middle));
    assert_eq!(events.told(), all[2..]);
    // What comes later has later ids.
    let f = server.submit(&body(6));
    assert_eq!(events.next().data["id"], f);
    cancel(&server, f);
    // A stream of one run tells of it alone.
    let one = |run: i64| Events::open(&server, &format!("/api/v1/runs/{run}/events"), Some(&before)).told();
    assert_eq!((one(d), one(c), one(a)), (pairs(&[(d, "canceled")]), pairs(&[(c, "deleted")]), Vec::new()));
    assert_eq!(server.get(&format!("/api/v1/runs/{c}/events")).0, 404);
}

#[test]
fn an_id_that_means_nothing_here_is_answered_by_looking_again() {
    let server = TestServer::with_scenes();
    let run = server.submit(&body(1));
    cancel(&server, run);
    let id = Events::open(&server, "/api/v1/events", None).id;
    let (database, latest) = id.split_once('-').unwrap();
    let too_new = format!("{database}-{}", latest.parse::<i64>().unwrap() + 1);
    for heard in ["x", "7", "-", "00000000-1", &too_new, &format!("{database}-"), &format!("{database}--1")] {
        for path in ["/api/v1/events".into(), format!("/api/v1/runs/{run}/events")] {
            let mut events = Events::open(&server, &path, Some(heard));
            assert_eq!(events.id, "missed", "{heard}");
            assert_eq!(events.told(), [], "{heard}");
        }
    }
    // Once told to, one goes on from there.
    let mut events = Events::open(&server, "/api/v1/events", Some("x"));
    delete(&server, run);
    let event = events.next();
    assert_eq!((event.kind.as_str(), &event.data), ("deleted", &json!(run)));
    assert_eq!(server.get("/api/v1/events?since=1").0, 422);
}

#[test]
fn listeners_of_a_flood_end_with_what_is_there() {
    let server = TestServer::with_scenes();
    // It changes all the time, and all others wait behind it.
    server.submit(&body(0));
    let start = Events::open(&server, "/api/v1/events", None).id;
    let mut steady = Events::open(&server, "/api/v1/events", Some(&start));
    let (mut seen, mut heard) = (BTreeMap::new(), start);
    thread::scope(|scope| {
        let flood = scope.spawn(|| {
            for round in 0..3 {
                let seeds: Vec<u64> = (1..=150).map(|seed| round * 1000 + seed).collect();
                let (status, sweep) = server.post("/api/v1/sweeps", &{
                    let mut sweep = body(0);
                    sweep.as_object_mut().unwrap().remove("seed");
                    sweep["grid"] = json!({ "seed": seeds });
                    sweep
                });
                assert_eq!(status, 201, "{sweep}");
                for item in sweep["items"].as_array().unwrap().iter().step_by(7) {
                    server.post(&format!("/api/v1/runs/{}/cancel", item["run"]["id"]), &Value::Null);
                }
            }
        });
        // Comes and goes all the time, and hears a few events each time.
        while !flood.is_finished() {
            let mut events = Events::open(&server, "/api/v1/events", Some(&heard));
            for _ in 0..20 {
                note(&mut seen, &events.next());
            }
            heard = events.id;
        }
    });
    // Whoever hears of the last change has heard of all before.
    let last = server.submit(&body(9999));
    for (events, seen) in
        [(&mut steady, &mut BTreeMap::new()), (&mut Events::open(&server, "/api/v1/events", Some(&heard)), &mut seen)]
    {
        while !seen.contains_key(&last) {
            note(seen, &events.next());
        }
        for status in ["queued", "canceled"] {
            let (_, page) = server.get(&format!("/api/v1/runs?limit=500&status={status}"));
            let runs = page["items"].as_array().unwrap();
            assert!(runs.len() > 50);
            for run in runs {
                assert_eq!(seen.get(&run["id"].as_i64().unwrap()), Some(&run["status"]), "{run}");
            }
        }
    }
}

fn note(seen: &mut BTreeMap<i64, Value>, event: &Event) {
    assert_ne!(event.kind, "missed");
    if event.kind == "run" {
        seen.insert(event.data["id"].as_i64().unwrap(), event.data["status"].clone());
    }
}
