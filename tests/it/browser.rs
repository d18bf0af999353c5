//! The pages in a real Chromium, driven through chromedriver: nothing overflows, nothing is logged as an error, charts are
//! drawn, the theme is remembered.
//!
//! Without chromedriver these tests say so and pass, unless `TWOGRAIN_REQUIRE_CHROMIUM=1`.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use reqwest::blocking::Client;
use serde_json::{Value, json};

use crate::support::TestServer;

/// Widths in pixels with a theme: from a small telephone to a large screen, and the two that are used most in both themes.
const LOOKS: [(u32, &str); 6] =
    [(360, "light"), (390, "light"), (390, "dark"), (1440, "light"), (1440, "dark"), (2560, "light")];
const PATIENCE: Duration = Duration::from_secs(20);

/// Every kind of page that the server has something to show on.
fn paths(server: &TestServer) -> Vec<String> {
    let list = |path: &str| -> Vec<Value> {
        let listing: Value = reqwest::blocking::get(format!("{}/api/v1/{path}", server.url)).unwrap().json().unwrap();
        listing["items"].as_array().unwrap().clone()
    };
    let mut paths: Vec<String> =
        ["/", "/runs", "/runs/new", "/sweeps", "/datasets", "/predict", "/api", "/nowhere"].map(str::to_owned).into();
    if let Some(dataset) = list("datasets").first() {
        let dataset = dataset["name"].as_str().unwrap();
        paths
            .extend([format!("/datasets/{dataset}"), format!("/datasets/{dataset}/images?outcomes=differ&sort=right")]);
    }
    if let Some(sweep) = list("sweeps").first() {
        paths.push(format!("/sweeps/{}", sweep["id"]));
    }
    let runs = list("runs?status=succeeded");
    let fine = runs.iter().filter(|run| run["objective"] != "coarse-only");
    let ids: Vec<String> = fine.map(|run| run["id"].to_string()).collect();
    if let [b, a, ..] = ids.as_slice() {
        let curves = format!("/curves?run={a}&run={b}");
        paths.extend([format!("/runs/{b}/labels"), format!("/transitions?a={a}&b={b}"), curves.clone()]);
        paths.extend(
            ["bottleneck", "labels/person", "categories", "categories/animal"].map(|of| format!("/runs/{b}/{of}")),
        );
        paths.extend([format!("{curves}&measure=validation-ia&x=seconds"), "/curves".into()]);
    }
    for status in ["succeeded", "failed", "running", "queued"] {
        if let Some(run) = list(&format!("runs?status={status}")).first() {
            paths.push(format!("/runs/{}", run["id"]));
            if status == "succeeded" {
                let images = format!("/runs/{}/images", run["id"]);
                let first = &list(&format!("runs/{}/outcomes", run["id"]))[0]["image"];
                paths.extend([
                    format!("{images}/{first}?sort=-loss"),
                    format!("{images}?min_labels=1&sort=-loss"),
                    images,
                ]);
            }
        }
    }
    paths
}

#[test]
fn every_page_fits_draws_its_charts_and_logs_no_error() {
    let Some(browser) = Browser::start() else { return };
    let server = TestServer::with_runs();
    // A queue that is paused, with runs that wait in a sweep: pages of both have something to show.
    server.post("/api/v1/queue/pause", &Value::Null);
    let sweep = json!({"dataset": "scenes", "backbone": "densenet-tiny", "epochs": 9999,
        "grid": {"objective": ["coarse-only", "top-k-softmax"], "learning_rate": [0.1, 0.01], "seed": [0, 1]}});
    assert_eq!(server.post("/api/v1/sweeps", &sweep).1["id"], 1);
    for path in paths(&server) {
        for (width, theme) in LOOKS {
            browser.resize(width);
            // The storage belongs to the site, so a page of it has to be open.
            browser.open(&format!("{}/healthz", server.url));
            browser.run(&format!("localStorage.setItem('theme', '{theme}')"));
            browser.log();
            browser.open(&format!("{}{path}", server.url));
            let at = format!("{path} at {width} pixels, {theme}");
            browser.wait_for(DRAWN, &at);
            let [needed, given] =
                [browser.run("return document.documentElement.scrollWidth"), browser.run("return innerWidth")];
            assert!(needed.as_u64() <= given.as_u64(), "{at} is {needed} pixels wide");
            assert_eq!(browser.run("return document.documentElement.dataset.theme"), theme, "{at}");
            let errors: Vec<String> = browser.log().into_iter().filter(|line| !is_expected(line, &path)).collect();
            assert_eq!(errors, Vec::<String>::new(), "{at}");
        }
    }
}

#[test]
fn images_are_walked_through_by_keys_and_a_listing_grows_as_it_is_read() {
    let Some(browser) = Browser::start() else { return };
    let server = TestServer::with_runs();
    let listing = "/runs/2/images?limit=6&sort=-loss";
    browser.resize(1440);
    browser.open(&format!("{}{listing}", server.url));
    let cards = "document.querySelectorAll('#cards > li').length";
    // Nothing is fetched before somebody comes near the end; then one page after the other, to the last.
    browser.wait_for(
        &format!(
            "scrollTo(0, document.body.scrollHeight); return {cards} === 24 && !document.querySelector('[data-more]')"
        ),
        "all images",
    );
    let all = "return new Set([...document.querySelectorAll('#cards > li')].map((card) => card.id)).size";
    assert_eq!(browser.run(all), 24, "none twice");

    let key = |key: &str| {
        browser
            .run(&format!("document.body.dispatchEvent(new KeyboardEvent('keydown', {{key: '{key}', bubbles: true}}))"))
    };
    let image = |position: usize| {
        let link = format!("return document.querySelectorAll('#cards .thumb')[{position}].pathname");
        browser.run(&link).as_str().unwrap().to_owned()
    };
    let [first, second] = [image(0), image(1)];
    browser.run("document.querySelector('#cards .thumb').click()");
    let at = |path: &str| {
        browser.wait_for(&format!("return document.readyState === 'complete' && location.pathname === '{path}'"), path)
    };
    at(&first);
    key("ArrowRight");
    at(&second);
    key("ArrowLeft");
    at(&first);
    // In a field the arrows move the cursor.
    browser.run(
        "const tag = document.getElementById('tag'); tag.focus(); \
        tag.dispatchEvent(new KeyboardEvent('keydown', {key: 'ArrowRight', bubbles: true}))",
    );
    at(&first);
    key("Escape");
    at("/runs/2/images");
    assert_eq!(browser.run("return location.search"), "?sort=-loss");
}

#[test]
fn the_theme_can_be_changed_and_is_remembered() {
    let Some(browser) = Browser::start() else { return };
    let server = TestServer::empty();
    let background = "return getComputedStyle(document.body).backgroundColor";
    browser.open(&format!("{}/api", server.url));
    browser.wait_for("return !document.querySelector('.theme-toggle').hidden", "the toggle");
    let before = browser.run(background);
    browser.run("document.querySelector('.theme-toggle').click()");
    let after = browser.run(background);
    assert_ne!(before, after);
    browser.open(&format!("{}/runs", server.url));
    assert_eq!(browser.run(background), after);
}

#[test]
fn what_is_ticked_stays_ticked_while_the_list_lives() {
    let Some(browser) = Browser::start() else { return };
    let server = TestServer::with_scenes();
    let submit = |seed: u64| {
        server.submit(&json!({
            "dataset": "scenes", "backbone": "resnet-tiny", "objective": "coarse-only", "epochs": 10_000, "input_size": 32,
            "seed": seed
        }))
    };
    let first = submit(0);
    browser.open(&format!("{}/runs", server.url));
    browser.run(&format!("document.getElementById('choose-{first}').click()"));
    let second = submit(1);
    browser.wait_for(&format!("return document.getElementById('choose-{second}') !== null"), "the second run");
    browser.run(&format!("document.getElementById('choose-{second}').click()"));
    let third = submit(2);
    browser.wait_for(&format!("return document.getElementById('choose-{third}') !== null"), "the third run");
    browser.run("document.querySelector('#choose button').click()");
    browser.wait_for("return document.body?.dataset.page === 'curves'", "the curves");
    assert_eq!(browser.run("return location.search"), format!("?run={second}&run={first}"));
    // The curve comes without a click once there is an epoch.
    browser.wait_for(
        "return document.querySelectorAll('#curves tbody tr').length > 1 && document.querySelector('.plot svg.main-svg') !== null",
        "the live curve",
    );
}

/// Every chart that is shown has been drawn.
const DRAWN: &str = "return [...document.querySelectorAll('[data-chart]')].every((chart) => {
    const data = document.getElementById(chart.dataset.chart).textContent;
    return data === 'null' ? chart.hidden : chart.querySelector('.plot svg.main-svg') !== null;
})";

/// Chromium logs each address that is not found: the page that is not there.
fn is_expected(line: &str, path: &str) -> bool {
    line.contains("status of 404") && path == "/nowhere"
}

/// A session with a headless Chromium.
struct Browser {
    driver: Child,
    client: Client,
    session: String,
}

impl Browser {
    /// `None`, with a note, if there is no chromedriver and it may be missing.
    fn start() -> Option<Self> {
        let driver = Command::new("chromedriver").arg("--port=0").stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let Ok(mut driver) = driver else {
            let required = std::env::var("TWOGRAIN_REQUIRE_CHROMIUM").is_ok_and(|value| value == "1");
            assert!(!required, "chromedriver is not installed, and TWOGRAIN_REQUIRE_CHROMIUM=1 asks for it");
            eprintln!("skipped: chromedriver is not installed");
            return None;
        };
        let output = BufReader::new(driver.stdout.take().unwrap());
        let port = output
            .lines()
            .map_while(Result::ok)
            .find_map(|line| line.split_once("successfully on port ")?.1.trim_end_matches('.').parse::<u16>().ok())
            .expect("chromedriver says on which port it listens");
        let client = Client::builder().timeout(Duration::from_secs(60)).build().unwrap();
        let mut browser = Self { driver, client, session: format!("http://127.0.0.1:{port}/session") };
        let options = json!({ "args": [
            "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-quic",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
        ] });
        let wanted = json!({ "goog:chromeOptions": options, "goog:loggingPrefs": { "browser": "SEVERE" } });
        let session = browser.post("", json!({ "capabilities": { "alwaysMatch": wanted } }));
        browser.session = format!("{}/{}", browser.session, session["sessionId"].as_str().unwrap());
        Some(browser)
    }

    fn post(&self, command: &str, body: Value) -> Value {
        let mut answer: Value =
            self.client.post(format!("{}{command}", self.session)).json(&body).send().unwrap().json().unwrap();
        assert!(answer["value"]["error"].is_null(), "{command}: {answer}");
        answer["value"].take()
    }

    fn open(&self, url: &str) {
        self.post("/url", json!({ "url": url }));
    }

    fn run(&self, script: &str) -> Value {
        self.post("/execute/sync", json!({ "script": script, "args": [] }))
    }

    /// The window cannot be made as narrow as a telephone; the emulated screen can.
    fn resize(&self, width: u32) {
        let params = json!({ "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600 });
        self.post("/goog/cdp/execute", json!({ "cmd": "Emulation.setDeviceMetricsOverride", "params": params }));
    }

    /// Errors on the console since the last call.
    fn log(&self) -> Vec<String> {
        let lines = self.post("/se/log", json!({ "type": "browser" }));
        lines.as_array().unwrap().iter().map(|line| line["message"].as_str().unwrap_or_default().to_owned()).collect()
    }

    fn wait_for(&self, script: &str, what: &str) {
        let started = Instant::now();
        while self.run(script) != json!(true) {
            assert!(started.elapsed() < PATIENCE, "{what}: waited in vain; on the console: {:?}", self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Closes Chromium; killing the driver alone would leave it behind.
        let _ = self.client.delete(&self.session).send();
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
