//! What tests share: the neighbouring data, Python, and a server as users run it.

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use scraper::{Html, Selector};
use serde_json::{Value, json};
use twograin::dataset::{
    coco::CocoSource,
    scenes::{self, ScenesConfig},
};

/// The data that tests may use but the repository does not contain. Says so and returns `None` where it is absent.
pub fn shared(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data").join(name);
    if path.exists() {
        return Some(path);
    }
    println!("skipped: {} is not here", path.display());
    None
}

/// A Python with numpy and safetensors: `TWOGRAIN_PYTHON`, else `python3`. Says so and returns `None` where there is none,
/// unless `TWOGRAIN_REQUIRE_PYTHON` is set.
pub fn python() -> Option<Command> {
    let program = std::env::var("TWOGRAIN_PYTHON").unwrap_or_else(|_| "python3".into());
    let output = Command::new(&program).args(["-c", "import numpy, safetensors"]).output();
    if output.is_ok_and(|output| output.status.success()) {
        return Some(Command::new(program));
    }
    assert!(std::env::var_os("TWOGRAIN_REQUIRE_PYTHON").is_none(), "{program} has no numpy and safetensors");
    println!("skipped: {program} has no numpy and safetensors; TWOGRAIN_PYTHON names another Python");
    None
}

/// What `tests/reference/recompute.py` makes of a run's test scores and the annotations, under a rule in its words; `None`
/// without Python.
pub fn recompute(server: &TestServer, run: i64, annotations: &Path, rule: &str) -> Option<Value> {
    let mut command = python()?;
    let (_, report) = server.get(&format!("/api/v1/runs/{run}"));
    let (_, dataset) = server.get(&format!("/api/v1/datasets/{}", report["dataset"].as_str().expect("a data set")));
    let taxonomy = server.data.path().join("taxonomy.json");
    std::fs::write(&taxonomy, dataset["taxonomy"].to_string()).expect("written");
    let scores = server.data.path().join(format!("runs/{run}/attempt-1/scores-test.safetensors"));
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference/recompute.py");
    let output = command.arg(script).arg(scores).arg(annotations).arg(&taxonomy).arg(rule).output();
    let output = output.expect("Python starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(serde_json::from_slice(&output.stdout).expect("JSON"))
}

/// The program, without whatever the tester's environment says.
pub fn twograin() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_twograin"));
    let ours = std::env::vars_os().map(|(name, _)| name);
    for name in ours.filter(|name| name.to_string_lossy().starts_with("TWOGRAIN_")) {
        command.env_remove(name);
    }
    command
}

/// `twograin serve` in a process of its own, on a data directory of its own; both end with it, and the workers too.
pub struct TestServer {
    /// Such as `http://127.0.0.1:40123`.
    pub url: String,
    /// The data directory.
    pub data: tempfile::TempDir,
    process: Child,
    launch: Launch,
}

/// How a server is started, and started again.
#[derive(Clone, Default)]
pub struct Launch {
    /// Flags beside the usual ones.
    pub flags: Vec<String>,
    /// A program with arguments that starts the server, such as one that changes its surroundings.
    pub through: Vec<String>,
    /// Variables of its environment.
    pub environment: Vec<(String, String)>,
}

impl Launch {
    /// With these flags.
    pub fn with(flags: &[&str]) -> Self {
        Self { flags: flags.iter().map(|flag| (*flag).to_owned()).collect(), ..Self::default() }
    }

    fn command(&self, data: &Path) -> Command {
        let own = twograin();
        let mut command = match self.through.split_first() {
            Some((program, arguments)) => {
                let mut command = Command::new(program);
                command.args(arguments).arg(own.get_program());
                // What is taken out of the environment.
                for (name, _) in own.get_envs() {
                    command.env_remove(name);
                }
                command
            }
            None => own,
        };
        command.arg("serve");
        if !self.flags.iter().any(|flag| flag == "--listen") {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        command.arg("--data-dir").arg(data).args(&self.flags);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }
}

impl TestServer {
    /// A server on an empty data directory.
    pub fn empty() -> Self {
        Self::start(tempfile::tempdir().expect("a temporary directory"))
    }

    /// A server on this data directory.
    pub fn start(data: tempfile::TempDir) -> Self {
        Self::launch(data, Launch::default())
    }

    /// A server on this data directory, started so.
    pub fn launch(data: tempfile::TempDir, launch: Launch) -> Self {
        let mut command = launch.command(data.path());
        // As a shell starts a program: in a process group of its own.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut process = command.stdout(Stdio::piped()).spawn().expect("the server starts");
        let mut lines = BufReader::new(process.stdout.take().expect("standard output is piped")).lines();
        let mut said = Vec::new();
        let url = loop {
            let line =
                lines.next().unwrap_or_else(|| panic!("the server ended: {said:?}")).expect("standard output is text");
            if let Some(rest) = line.split_once("Twograin is at ") {
                break rest.1.split(';').next().unwrap_or_default().to_owned();
            }
            said.push(line);
        };
        Self { url, data, process, launch }
    }

    /// A server with a small drawn data set called `scenes`; its images are in `images/` of the data directory.
    pub fn with_scenes() -> Self {
        Self::start(Self::scenes())
    }

    /// The same, started so.
    pub fn with_scenes_and(launch: Launch) -> Self {
        Self::launch(Self::scenes(), launch)
    }

    fn scenes() -> tempfile::TempDir {
        let data = tempfile::tempdir().expect("a temporary directory");
        let config = ScenesConfig { train: 60, test: 24, side: 40, seed: 9 };
        let files = scenes::generate(&data.path().join("images"), &config, &|_, _| {}).expect("scenes");
        import("scenes", data.path(), &files.train, &files.test);
        data
    }

    /// A server with [`Self::with_scenes`]' data set, a run of each objective that succeeded, and one that was canceled.
    pub fn with_runs() -> Self {
        let server = Self::with_scenes();
        let runs = ["coarse-only", "top-k-softmax", "sigmoid-threshold"].map(|objective| {
            server.submit(&json!({
                "dataset": "scenes", "backbone": "resnet-tiny", "objective": objective, "epochs": 2, "input_size": 32,
                "batch_size": 16, "augmentation": "flip", "threshold": 0.2, "warmup_epochs": 0, "tags": ["trial"]
            }))
        });
        let canceled = json!({"dataset": "scenes", "backbone": "vgg-tiny", "objective": "coarse-only", "epochs": 9999});
        let canceled = server.submit(&canceled);
        let (status, _) = server.post(&format!("/api/v1/runs/{canceled}/cancel"), &Value::Null);
        assert_eq!(status, 202);
        for run in runs {
            let report = server.wait(run);
            assert_eq!(report["status"], "succeeded", "{report}");
        }
        server
    }

    /// Ends the server as Ctrl-C in a terminal would, and starts another one on the same data directory.
    #[cfg(unix)]
    pub fn interrupt_and_restart(mut self) -> Self {
        self.interrupt();
        self.restart()
    }

    /// Ends the server as Ctrl-C in a terminal would, and waits for its end.
    #[cfg(unix)]
    pub fn interrupt(&mut self) {
        let group = format!("-{}", self.process.id());
        let sent = Command::new("kill").args(["-INT", "--", &group]).status().expect("kill is there");
        assert!(sent.success(), "the signal was not sent");
        self.process.wait().expect("the server ends");
    }

    /// The process of a run's latest attempt, once it has one.
    pub fn worker(&self, run: i64) -> u32 {
        let start = Instant::now();
        loop {
            let (_, report) = self.get(&format!("/api/v1/runs/{run}"));
            let attempt = report["attempts"].as_array().and_then(|attempts| attempts.last());
            let owner =
                attempt.filter(|attempt| attempt["exit"].is_null()).and_then(|attempt| attempt["owner"].as_str());
            if let Some(process) = owner.and_then(|owner| owner.strip_prefix("process ")?.split(' ').next()) {
                return process.parse().expect("a number");
            }
            assert!(start.elapsed() < Duration::from_secs(30), "there is no worker: {report}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Ends the server as a crash would, and starts another one on the same data directory.
    pub fn crash_and_restart(mut self) -> Self {
        self.crash();
        self.restart()
    }

    /// Ends the server as a crash would.
    pub fn crash(&mut self) {
        self.process.kill().expect("the server can be killed");
        self.process.wait().expect("the server ends");
    }

    /// Ends the server as a crash would, and starts another one at the same address, after a while.
    pub fn crash_and_return(mut self, after: Duration) -> Self {
        self.crash();
        let address = self.url.trim_start_matches("http://").to_owned();
        self.launch.flags.extend(["--listen".into(), address]);
        std::thread::sleep(after);
        self.restart()
    }

    /// Starts another server on the same data directory as this one, which has ended.
    pub fn restart(mut self) -> Self {
        let data = std::mem::replace(&mut self.data, tempfile::tempdir().expect("a temporary directory"));
        Self::launch(data, self.launch.clone())
    }

    /// The server's process.
    pub fn process(&self) -> u32 {
        self.process.id()
    }

    /// The workers on this data directory, whoever started them.
    #[cfg(target_os = "linux")]
    pub fn workers(&self) -> Vec<u32> {
        let entries = std::fs::read_dir("/proc").expect("processes");
        let ids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        let assignment = format!("\0worker\0{}/", self.data.path().display());
        let is_ours = |id: &u32| {
            std::fs::read_to_string(format!("/proc/{id}/cmdline")).is_ok_and(|line| line.contains(&assignment))
        };
        ids.filter(is_ours).collect()
    }

    /// `GET` of a path: status and JSON.
    pub fn get(&self, path: &str) -> (u16, Value) {
        self.send(reqwest::blocking::Client::new().get(format!("{}{path}", self.url)))
    }

    /// `GET` of a page: its HTML.
    pub fn page(&self, path: &str) -> String {
        let response = reqwest::blocking::get(format!("{}{path}", self.url)).expect("an answer");
        assert_eq!(response.status(), 200, "{path}");
        response.text().expect("text")
    }

    /// `POST` of JSON: status and JSON.
    pub fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        self.send(reqwest::blocking::Client::new().post(format!("{}{path}", self.url)).json(body))
    }

    /// Sends a request: status and JSON, `null` for an empty answer.
    pub fn send(&self, request: reqwest::blocking::RequestBuilder) -> (u16, Value) {
        let response = request.timeout(Duration::from_secs(60)).send().expect("an answer");
        let status = response.status().as_u16();
        let text = response.text().expect("text");
        if text.is_empty() {
            return (status, Value::Null);
        }
        let json = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text}"));
        (status, json)
    }

    /// Submits a run, which must be taken, and returns its number.
    pub fn submit(&self, body: &Value) -> i64 {
        let (status, run) = self.post("/api/v1/runs", body);
        assert_eq!(status, 201, "{run}");
        run["id"].as_i64().expect("an id")
    }

    /// Waits until a run has ended, and returns it.
    pub fn wait(&self, run: i64) -> Value {
        let start = Instant::now();
        loop {
            let (_, report) = self.get(&format!("/api/v1/runs/{run}"));
            match report["status"].as_str() {
                Some("queued" | "running") => {}
                _ => return report,
            }
            assert!(start.elapsed() < Duration::from_secs(300), "run {run} does not end: {report}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

/// What the API answers, which must be 200.
pub fn api(server: &TestServer, path: &str) -> Value {
    let (status, json) = server.get(&format!("/api/v1/{path}"));
    assert_eq!(status, 200, "{path}: {json}");
    json
}

/// An attribute of each element of a page that has it.
pub fn attributes(page: &str, selector: &str, name: &str) -> Vec<String> {
    let (html, selector) = (Html::parse_document(page), Selector::parse(selector).unwrap());
    html.select(&selector).filter_map(|element| element.attr(name)).map(str::to_owned).collect()
}

/// The text of each element of a page, in single spaces.
pub fn texts(page: &str, selector: &str) -> Vec<String> {
    let (html, selector) = (Html::parse_document(page), Selector::parse(selector).unwrap());
    let found = html.select(&selector).map(|element| element.text().collect::<String>());
    found.map(|text| text.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

/// A run that is over in a second or two.
pub fn quick(changes: Value) -> Value {
    let mut body = json!({
        "dataset": "scenes", "backbone": "resnet-tiny", "objective": "sigmoid-threshold", "epochs": 1, "input_size": 32,
        "batch_size": 16, "augmentation": "flip", "threshold": 0.2, "warmup_epochs": 0
    });
    body.as_object_mut().expect("an object").extend(changes.as_object().expect("an object").clone());
    body
}

/// `twograin dataset import-coco`, which must work.
pub fn import(name: &str, data: &Path, train: &CocoSource, test: &CocoSource) {
    let mut command = twograin();
    command.args(["dataset", "import-coco", name, "--verify", "--data-dir"]).arg(data);
    for (split, source) in [("train", train), ("test", test)] {
        command.arg(format!("--{split}-annotations")).arg(&source.annotations);
        command.arg(format!("--{split}-images")).arg(source.images.as_ref().expect("a source with images"));
    }
    let output = command.output().expect("the program starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

impl Drop for TestServer {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
        // They would look for a server that will not come.
        #[cfg(target_os = "linux")]
        for worker in self.workers() {
            let _ = Command::new("kill").args(["-KILL", &worker.to_string()]).stderr(Stdio::null()).status();
        }
    }
}
