//! A stream of server-sent events, as it is read.

use std::io::{self, BufRead};

/// One event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// Such as `run`.
    pub kind: String,
    /// Usually JSON.
    pub data: String,
}

/// Events from the lines of a stream.
pub struct Events<R> {
    lines: R,
    /// The latest id, also one without an event, with which the stream can be gone on from.
    pub id: Option<String>,
}

impl<R: BufRead> Events<R> {
    /// The events of a stream that has just begun.
    pub fn new(lines: R) -> Self {
        Self { lines, id: None }
    }

    /// The next event; `None` at the end. What the end cut off is dropped, as it comes again.
    pub fn next(&mut self) -> io::Result<Option<Event>> {
        let mut event = Event::default();
        let mut id = None;
        let mut line = String::new();
        loop {
            line.clear();
            if self.lines.read_line(&mut line)? == 0 || !line.ends_with('\n') {
                return Ok(None);
            }
            let line = line.trim_end_matches(['\n', '\r']);
            let (name, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match name {
                "event" => event.kind = value.to_owned(),
                "data" if event.data.is_empty() => event.data = value.to_owned(),
                "data" => event.data = format!("{}\n{value}", event.data),
                "id" => id = Some(value.to_owned()),
                // Ends the event.
                "" if line.is_empty() => {
                    self.id = id.take().or(self.id.take());
                    if event != Event::default() {
                        return Ok(Some(event));
                    }
                }
                // A comment, which keeps the connection alive, or what we do not know.
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_as_they_are_written() {
        let text = "id: a-1\n\n:\n\nevent: run\r\ndata: {\"a\":\r\ndata:1}\r\nid: a-2\r\n\r\nevent: missed\ndata: null\n\nid: a-3\nevent: run\nda";
        let mut events = Events::new(text.as_bytes());
        let mut next = || events.next().unwrap().map(|event| (event.kind, event.data, events.id.clone()));
        let id = Some("a-2".to_owned());
        assert_eq!(next(), Some(("run".into(), "{\"a\":\n1}".into(), id.clone())));
        assert_eq!(next(), Some(("missed".into(), "null".into(), id)));
        // The id of an event that did not come whole is not taken.
        assert_eq!(next(), None);
        assert_eq!(events.id.as_deref(), Some("a-2"));
    }
}
