//! A stand-in for the server: answers in order what a test gave it, and keeps what it was asked.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    thread::{self, JoinHandle},
};

/// What it was asked.
pub struct Asked {
    pub line: String,
    /// The id of the last event that was heard.
    pub heard: Option<String>,
    pub body: String,
}

/// A server that gives each of its answers once.
pub struct Server {
    pub url: String,
    thread: JoinHandle<Vec<Asked>>,
}

impl Server {
    /// `answers`: status and body of each answer, in order.
    pub fn start(answers: Vec<(u16, String)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let thread = thread::spawn(move || {
            answers.into_iter().map(|(status, body)| answer(listener.accept().unwrap().0, status, &body)).collect()
        });
        Self { url, thread }
    }

    /// What it was asked, once all answers are given.
    pub fn asked(self) -> Vec<Asked> {
        self.thread.join().unwrap()
    }
}

fn answer(stream: TcpStream, status: u16, body: &str) -> Asked {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    let mut length = 0;
    let mut heard = None;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).unwrap();
        let header = header.trim().to_ascii_lowercase();
        if header.is_empty() {
            break;
        }
        if let Some(value) = header.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if let Some(value) = header.strip_prefix("last-event-id:") {
            heard = Some(value.trim().to_owned());
        }
    }
    let mut bytes = vec![0; length];
    reader.read_exact(&mut bytes).unwrap();
    let head = format!(
        "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    reader.get_mut().write_all((head + body).as_bytes()).unwrap();
    let request = line.trim().trim_end_matches(" HTTP/1.1").to_owned();
    Asked { line: request, heard, body: String::from_utf8_lossy(&bytes).into_owned() }
}
