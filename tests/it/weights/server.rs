//! A server of this machine for downloads, which answers as a test says.

use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

use twograin::exchange::Sha256Hex;

/// A request: its line, and its headers by lower-case name.
#[derive(Clone, Debug)]
pub struct Asked {
    pub line: String,
    pub headers: HashMap<String, String>,
}

impl Asked {
    /// The first byte that a `Range` wants.
    pub fn from(&self) -> usize {
        let range = self.headers.get("range").and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-'));
        range.map_or(0, |from| from.parse().unwrap())
    }
}

#[derive(Default)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
    /// Ends the connection after so many bytes of the body.
    pub cut: Option<usize>,
}

pub fn status(status: u16) -> Answer {
    Answer { status, ..Answer::default() }
}

/// A server that answers each request as `answer` says, and what it was asked.
pub struct Server {
    pub url: String,
    pub asked: Arc<Mutex<Vec<Asked>>>,
}

impl Server {
    pub fn start(answer: impl Fn(&str, &Asked) -> Answer + Send + 'static) -> Self {
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
    pub fn hub(file: &[u8], answer: impl Fn(&Asked) -> Answer + Send + 'static) -> Self {
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

    pub fn lines(&self) -> Vec<String> {
        self.asked.lock().unwrap().iter().map(|asked| asked.line.clone()).collect()
    }

    /// The first bytes that downloads asked for.
    pub fn starts(&self) -> Vec<usize> {
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
