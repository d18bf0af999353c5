//! What a browser without JavaScript, and a script, are served. HTML is asserted by selector.

use reqwest::{
    StatusCode,
    blocking::{Client, RequestBuilder, Response},
    redirect::Policy,
};
use scraper::{Html, Selector};
use serde_json::Value;

use crate::support::TestServer;

fn client() -> Client {
    Client::builder().redirect(Policy::none()).build().unwrap()
}

fn get(server: &TestServer, path: &str) -> Response {
    client().get(format!("{}{path}", server.url)).send().unwrap()
}

fn post(server: &TestServer, path: &str) -> RequestBuilder {
    client().post(format!("{}{path}", server.url))
}

fn page(server: &TestServer, path: &str) -> Html {
    let response = get(server, path);
    assert_eq!(response.status(), StatusCode::OK, "{path}");
    Html::parse_document(&response.text().unwrap())
}

fn texts(page: &Html, selector: &str) -> Vec<String> {
    let selector = Selector::parse(selector).unwrap();
    let texts = page.select(&selector).map(|element| element.text().collect::<String>());
    texts.map(|text| text.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

fn attributes(page: &Html, selector: &str, name: &str) -> Vec<String> {
    let selector = Selector::parse(selector).unwrap();
    let elements = page.select(&selector);
    elements.filter_map(|element| element.attr(name)).map(str::to_owned).collect()
}

fn problem(response: Response) -> Value {
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    let status = response.status().as_u16();
    let problem: Value = response.json().unwrap();
    assert_eq!(problem["status"], status);
    problem
}

/// A form body from its fields, whose values need no encoding.
fn form(server: &TestServer, path: &str, fields: &[(&str, &str)]) -> Response {
    let body: Vec<String> = fields.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let kind = ("content-type", "application/x-www-form-urlencoded");
    post(server, path).header(kind.0, kind.1).body(body.join("&")).send().unwrap()
}

#[test]
fn every_page_has_a_title_one_heading_and_its_place_in_the_navigation() {
    let server = TestServer::empty();
    for (path, current) in [
        ("/", "Comparison"),
        ("/runs", "Runs"),
        ("/runs/new", "Runs"),
        ("/sweeps", "Runs"),
        ("/datasets", "Data sets"),
        ("/predict", "Predict"),
        ("/api", "API"),
    ] {
        let page = page(&server, path);
        assert!(texts(&page, "title")[0].ends_with("· Twograin"), "{path}");
        assert_eq!(texts(&page, "h1").len(), 1, "{path}");
        assert_eq!(texts(&page, "nav [aria-current]"), [current], "{path}");
        assert_eq!(attributes(&page, "html", "lang"), ["en"]);
        let ids = attributes(&page, "[id]", "id");
        let mut unique = ids.clone();
        unique.sort();
        unique.dedup();
        assert_eq!(ids.len(), unique.len(), "{path} has an id twice: {ids:?}");
    }
}

#[test]
fn a_problem_is_a_document_under_the_api_and_a_page_elsewhere() {
    let server = TestServer::empty();
    let document = problem(get(&server, "/api/v1/runs/999999"));
    assert_eq!((&document["title"], &document["instance"]), (&"Not found".into(), &"/api/v1/runs/999999".into()));
    for path in ["/runs/999999", "/runs/abc", "/nowhere", "/datasets/nowhere", "/images/999999"] {
        let response = get(&server, path);
        assert_eq!(response.status(), StatusCode::NOT_FOUND, "{path}");
        assert_eq!(texts(&Html::parse_document(&response.text().unwrap()), "h1"), ["Not found"], "{path}");
    }
    for path in ["/api/v1/nowhere", "/api/v1/runs/abc"] {
        assert_eq!(problem(get(&server, path))["status"], 404, "{path}");
    }
}

#[test]
fn a_method_that_is_not_there_is_named_with_those_that_are() {
    let server = TestServer::empty();
    let response = client().put(format!("{}/api/v1/runs", server.url)).send().unwrap();
    assert_eq!(response.headers()["allow"], "GET,HEAD,POST");
    assert_eq!(problem(response)["detail"], "/api/v1/runs does not answer PUT requests.");
}

#[test]
fn a_query_that_is_not_understood_is_refused_with_the_reason() {
    let server = TestServer::empty();
    for (path, reason) in [
        ("/api/v1/runs?epoch=3", "unknown field `epoch`"),
        ("/api/v1/runs?limit=x", "limit"),
        ("/api/v1/runs?status=done", "unknown variant `done`"),
        ("/api/v1/comparisons?pick=a", "“a” is not a run's number"),
        ("/api/v1/comparisons?picks=1", "unknown field `picks`"),
    ] {
        let problem = problem(get(&server, path));
        assert_eq!(problem["status"], 422, "{path}");
        assert!(problem["detail"].as_str().unwrap().contains(reason), "{problem}");
    }
    // As a form sends what is not filled in.
    assert_eq!(get(&server, "/runs?dataset=&status=").status(), StatusCode::OK);
}

#[test]
fn another_site_s_page_can_change_nothing() {
    let server = TestServer::empty();
    for origin in ["http://evil.example", "null"] {
        let response = post(&server, "/api/v1/runs/1/cancel").header("origin", origin).send().unwrap();
        assert_eq!(problem(response)["status"], 403);
        let response = post(&server, "/runs/1/delete").header("origin", origin).send().unwrap();
        assert_eq!(response.status(), StatusCode::FORBIDDEN);
    }
    let own = post(&server, "/runs/999999/cancel").header("origin", &server.url).send().unwrap();
    assert_eq!(own.status(), StatusCode::NOT_FOUND);
}

#[test]
fn a_name_that_is_not_this_machine_s_is_refused_on_loopback() {
    let server = TestServer::empty();
    let ask = |host: &str| client().get(format!("{}/runs", server.url)).header("host", host).send().unwrap().status();
    assert_eq!(ask("evil.example"), StatusCode::MISDIRECTED_REQUEST);
    for host in ["localhost", "localhost:1", "127.0.0.1:80", "[::1]:80"] {
        assert_eq!(ask(host), StatusCode::OK, "{host}");
    }
}

#[test]
fn every_answer_tells_the_browser_to_run_nothing_foreign() {
    let server = TestServer::empty();
    for path in ["/", "/nowhere", "/api/v1/datasets", "/api/v1/nowhere", "/healthz"] {
        let response = get(&server, path);
        let policy = response.headers()["content-security-policy"].to_str().unwrap().to_owned();
        assert!(policy.contains("script-src 'self';") && policy.contains("frame-ancestors 'none'"), "{path}");
        assert_eq!(response.headers()["x-content-type-options"], "nosniff");
        assert_eq!(response.headers()["cache-control"], "no-cache", "{path}");
    }
}

#[test]
fn static_files_are_kept_for_good_under_the_address_of_their_version() {
    let server = TestServer::empty();
    let page = page(&server, "/");
    let plotly = attributes(&page, "html", "data-plotly").remove(0);
    let style = attributes(&page, "link[rel=stylesheet]", "href").remove(0);
    for (path, kind) in [(&style, "text/css; charset=utf-8"), (&plotly, "text/javascript; charset=utf-8")] {
        let response = get(&server, path);
        assert_eq!(response.headers()["cache-control"], "public, max-age=31536000, immutable");
        assert_eq!(response.headers()["content-type"], kind);
        let tag = response.headers()["etag"].clone();
        let again = client().get(format!("{}{path}", server.url)).header("if-none-match", tag).send().unwrap();
        assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
    }
    let old = get(&server, "/static/0/app.css");
    assert_eq!((old.status(), &old.headers()["cache-control"]), (StatusCode::OK, &"no-cache".parse().unwrap()));
    assert_eq!(get(&server, "/static/0/..%2fCargo.toml").status(), StatusCode::NOT_FOUND);
}

#[test]
fn the_form_of_a_run_comes_back_as_it_was_filled_in_with_the_error_by_its_field() {
    let server = TestServer::empty();
    let fields = [("dataset", "d"), ("backbone", "vgg-tiny"), ("objective", "coarse-only"), ("momentum", "7")];
    let response = form(&server, "/runs", &fields);
    assert_eq!(response.status(), StatusCode::UNPROCESSABLE_ENTITY);
    let page = Html::parse_document(&response.text().unwrap());
    assert_eq!(attributes(&page, "[aria-invalid]", "name"), ["momentum"]);
    assert_eq!(attributes(&page, "#momentum", "value"), ["7"]);
    assert_eq!(texts(&page, "#backbone [selected]"), ["vgg-tiny"]);
    assert_eq!(texts(&page, "details[open] .error"), ["momentum: 7 is outside 0 to 0.9999"]);
}

#[test]
fn several_seeds_are_submitted_at_once_and_listed() {
    let server = TestServer::with_scenes();
    let mut fields = vec![("dataset", "scenes"), ("backbone", "vgg-tiny"), ("objective", "coarse-only")];
    fields.extend([("input_size", "32"), ("epochs", "9999")]);
    let submit = |seed| {
        let response = form(&server, "/runs", &[fields.as_slice(), &[("seed", seed)]].concat());
        assert_eq!(response.status(), StatusCode::SEE_OTHER);
        response.headers()["location"].to_str().unwrap().to_owned()
    };
    assert_eq!(submit("0-1,+5"), "/sweeps/1");
    assert_eq!(texts(&page(&server, "/sweeps/1"), "#runs tbody td:nth-of-type(1)"), ["0", "1", "5"]);
    let names = ["vgg-tiny coarse-only seed 5", "vgg-tiny coarse-only seed 1", "vgg-tiny coarse-only"];
    assert_eq!(texts(&page(&server, "/runs?dataset=scenes"), "#runs tbody th a"), names);
    // Those that are there are not submitted again, but on request.
    assert_eq!(submit("5,+6"), "/sweeps/2");
    assert_eq!(attributes(&page(&server, "/runs/3"), "#sweeps a", "href"), ["/sweeps/1", "/sweeps/2"]);
    assert_eq!(submit("5"), "/runs/3?existing=true");
    assert!(texts(&page(&server, "/runs/3?existing=true"), "#existing p")[0].contains("was there already"));
    assert_eq!(texts(&page(&server, "/runs/3"), "#existing"), Vec::<String>::new());
    assert_eq!(form(&server, "/runs/3/repeat", &[]).headers()["location"], "/runs/5");
    assert_eq!(texts(&page(&server, "/runs"), "#runs tbody th a").len(), 5);
    for run in 1..=5 {
        form(&server, &format!("/runs/{run}/cancel"), &[]);
    }
}

#[test]
fn a_run_that_cannot_be_read_is_refused_before_it_is_queued() {
    let server = TestServer::empty();
    let send = |body: &'static str| post(&server, "/api/v1/runs").header("content-type", "application/json").body(body);
    assert_eq!(problem(send("{").send().unwrap())["status"], 400);
    let missing = problem(send(r#"{"dataset":"d"}"#).send().unwrap());
    assert_eq!(
        (&missing["status"], &missing["detail"]),
        (&422.into(), &"The JSON body: missing field `backbone`".into())
    );
    assert_eq!(problem(post(&server, "/api/v1/runs").body("{}").send().unwrap())["status"], 415);
}

#[test]
fn an_upload_is_an_image_of_at_most_20_megabytes() {
    let server = TestServer::empty();
    let send = |kind: &'static str, body: Vec<u8>| {
        problem(post(&server, "/api/v1/predictions?run=1").header("content-type", kind).body(body).send().unwrap())
    };
    assert_eq!(send("text/plain", b"x".to_vec())["status"], 415);
    assert_eq!(send("image/png", Vec::new())["status"], 422);
    assert_eq!(send("image/png", vec![0; 20 * 1024 * 1024 + 1])["detail"], "The image is larger than 20 MB.");
    let unchosen =
        problem(post(&server, "/api/v1/predictions").header("content-type", "image/png").body("x").send().unwrap());
    assert_eq!(unchosen["detail"], "The query: run: choose the run whose model is to decide");
}

#[test]
fn a_page_s_json_is_one_link_away() {
    let server = TestServer::empty();
    for path in ["/runs", "/sweeps", "/datasets"] {
        let links = attributes(&page(&server, path), ".footer a", "href");
        let json = get(&server, &links[0]);
        assert_eq!(json.headers()["content-type"], "application/json", "{path}");
        assert!(json.json::<Value>().unwrap()["items"].is_array());
    }
}
