//! The HTTP client of the commands that talk to a server.

use std::{io::BufReader, time::Duration};

use clap::Args;
use reqwest::{
    Method, StatusCode, Url,
    blocking::{Client as Http, RequestBuilder, Response, multipart::Form},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{
    events::Events,
    failure::{Failure, chain},
};

/// Which server a command talks to.
#[derive(Args, Clone, Debug)]
pub struct ServerArgs {
    /// Address of the server
    #[arg(long, value_name = "URL", env = "TWOGRAIN_SERVER", default_value = "http://127.0.0.1:8080", global = true)]
    server: String,
}

/// How long an answer may take. An upload's may load a model first.
const TIMEOUT: Duration = Duration::from_secs(300);

/// How long a stream of events may say nothing: the server sends a comment every 15 seconds.
const SILENCE: Duration = Duration::from_secs(45);

/// How long a server may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Speaks with one server.
pub struct Client {
    http: Http,
    base: Url,
    shown: String,
}

/// Why there is no answer to go on with.
#[derive(Debug)]
pub enum Refusal {
    /// Nobody listens, or the connection broke.
    NoAnswer(String),
    /// The server said no.
    Answered(String),
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let (Refusal::NoAnswer(message) | Refusal::Answered(message)) = refusal;
        Self::Failed(message)
    }
}

/// An answer's body: the server's JSON, unchanged.
#[derive(Clone, Debug)]
pub struct Answer(String);

/// An answer that is a file.
pub struct Download {
    /// What the server calls it.
    pub name: Option<String>,
    /// Its bytes, as they come.
    pub body: Response,
}

/// What is read of an RFC 9457 problem document.
#[derive(Deserialize)]
struct Problem {
    title: String,
    detail: Option<String>,
}

impl ServerArgs {
    /// A client of that server. Does not connect yet.
    pub fn client(&self) -> Result<Client, Failure> {
        let wrong = |why: &str| Failure::Usage(format!("--server {}: {why}", self.server));
        let mut base = Url::parse(&self.server).map_err(|_| wrong("it is not a URL such as http://127.0.0.1:8080"))?;
        if base.scheme() != "http" || base.host_str().is_none() {
            return Err(wrong("only http:// addresses are supported"));
        }
        base.set_query(None);
        base.set_fragment(None);
        if !base.path().ends_with('/') {
            base.set_path(&format!("{}/", base.path()));
        }
        let http = http(&base, TIMEOUT);
        let http = http.map_err(|error| Failure::because("the HTTP client cannot be made", &error))?;
        Ok(Client { http, shown: base.as_str().trim_end_matches('/').to_owned(), base })
    }
}

/// `timeout`: of an answer, and of each read of its body.
fn http(base: &Url, timeout: Duration) -> reqwest::Result<Http> {
    let http = Http::builder()
        .timeout(timeout)
        .connect_timeout(CONNECT_TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(concat!("twograin/", env!("CARGO_PKG_VERSION")));
    if is_local(base) { http.no_proxy() } else { http }.build()
}

fn is_local(url: &Url) -> bool {
    url.host_str().is_some_and(|host| {
        let address = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
        host == "localhost" || address.is_ok_and(|address| address.is_loopback())
    })
}

impl Client {
    /// Whether the server is on this machine.
    pub fn is_local(&self) -> bool {
        is_local(&self.base)
    }

    /// The address of a page, to be shown.
    pub fn page(&self, path: &str) -> String {
        format!("{}/{path}", self.shown)
    }

    /// `GET`, with the parameters that are given.
    pub fn get(&self, path: &str, query: &impl Serialize) -> Result<Answer, Refusal> {
        self.send(self.request(Method::GET, path)?.query(query))
    }

    /// `GET` of a file, which is not read yet.
    pub fn download(&self, path: &str, query: &impl Serialize) -> Result<Download, Refusal> {
        let body = self.successful(self.request(Method::GET, path)?.query(query))?;
        let disposition = body.headers().get("content-disposition").and_then(|value| value.to_str().ok());
        let name = disposition.and_then(|value| value.split('"').nth(1)).map(str::to_owned);
        Ok(Download { name, body })
    }

    /// The same of what is called `name` under a path. A name may hold any character, slashes too.
    pub fn get_named(&self, path: &str, name: &str, query: &impl Serialize) -> Result<Answer, Refusal> {
        let mut url = self.url(path)?;
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.push(name);
        }
        self.get(url.as_str(), query)
    }

    /// `POST` of a JSON value.
    pub fn post(&self, path: &str, body: &impl Serialize) -> Result<Answer, Refusal> {
        self.send(self.request(Method::POST, path)?.json(body))
    }

    /// `PATCH` with a JSON value.
    pub fn patch(&self, path: &str, body: &impl Serialize) -> Result<Answer, Refusal> {
        self.send(self.request(Method::PATCH, path)?.json(body))
    }

    /// `POST` of files.
    pub fn upload(&self, path: &str, query: &impl Serialize, form: Form) -> Result<Answer, Refusal> {
        self.send(self.request(Method::POST, path)?.query(query).multipart(form))
    }

    /// `DELETE`.
    pub fn delete(&self, path: &str) -> Result<Answer, Refusal> {
        self.send(self.request(Method::DELETE, path)?)
    }

    /// A stream of events, from after the event with the id `heard` on.
    pub fn events(&self, path: &str, heard: Option<&str>) -> Result<Events<BufReader<Response>>, Refusal> {
        let url = self.url(path)?;
        let http = http(&self.base, SILENCE).map_err(|error| Refusal::Answered(chain(&error)))?;
        let request = http.get(url).header("accept", "text/event-stream");
        let request = heard.into_iter().fold(request, |request, id| request.header("last-event-id", id));
        self.successful(request).map(|response| Events::new(BufReader::new(response)))
    }

    fn url(&self, path: &str) -> Result<Url, Refusal> {
        self.base.join(path).map_err(|error| Refusal::Answered(format!("{path}: {error}")))
    }

    fn request(&self, method: Method, path: &str) -> Result<RequestBuilder, Refusal> {
        Ok(self.http.request(method, self.url(path)?).header("accept", "application/json"))
    }

    fn send(&self, request: RequestBuilder) -> Result<Answer, Refusal> {
        let response = self.successful(request)?;
        response.text().map(Answer).map_err(|error| self.no_answer(error))
    }

    /// The answer to a request, of which only the head is read, unless it is a refusal.
    fn successful(&self, request: RequestBuilder) -> Result<Response, Refusal> {
        let response = request.send().map_err(|error| self.no_answer(error))?;
        match response.status() {
            status if status.is_success() => Ok(response),
            status => {
                let body = response.text().map_err(|error| self.no_answer(error))?;
                Err(Refusal::Answered(self.refused(status, &body)))
            }
        }
    }

    fn no_answer(&self, error: reqwest::Error) -> Refusal {
        let server = &self.shown;
        Refusal::NoAnswer(if error.is_connect() {
            format!("no server answers at {server}; start one with `twograin serve`, or name another with --server")
        } else if error.is_timeout() {
            format!("the server at {server} did not answer in time")
        } else {
            format!("the connection to {server} broke: {}", chain(&error.without_url()))
        })
    }

    fn refused(&self, status: StatusCode, body: &str) -> String {
        match serde_json::from_str(body) {
            Ok(Problem { title, detail: None }) => title,
            Ok(Problem { title, detail: Some(detail) }) => format!("{title}: {detail}"),
            Err(_) => {
                format!("{} answered {status}, and not in the way of a Twograin server; is --server right?", self.shown)
            }
        }
    }
}

impl Answer {
    /// The text as it came.
    pub fn text(&self) -> &str {
        &self.0
    }

    /// The text as a value.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        serde_json::from_str(&self.0).map_err(|error| {
            Failure::Failed(format!("the server's answer is not understood ({error}); is it of another version?"))
        })
    }
}
