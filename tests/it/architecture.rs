//! The invariants that ARCHITECTURE.md promises, checked over the source files.

use std::{fs, path::Path};

use source::{Source, Token};

mod source;

/// `.expect(…)` outside tests, with the reason why it cannot fail whatever users, files, network or clock do.
const EXPECTATIONS: &[(&str, &str, &str)] = &[
    (
        "src/domain/taxonomy.rs",
        "the built-in taxonomy is valid: a unit test loads it",
        "the JSON is compiled in, and a unit test loads it",
    ),
    (
        "src/dataset/transform/mod.rs",
        "an image's buffer has the length of its pixels",
        "the buffer is the one of a decoded `RgbImage`",
    ),
    (
        "src/dataset/transform/mod.rs",
        "the crop lies inside the image, and both are RGB",
        "the crop is clipped to the image two lines above",
    ),
    ("src/dataset/scenes/scene.rs", "the side is checked to be positive", "the side comes from the built-in settings"),
    ("src/dataset/scenes/scene.rs", "the canvas has the same side", "a canvas of this side was made before"),
];

/// Crates that a part of the program must not name.
const FORBIDDEN_CRATES: &[(&[&str], &[&str])] = &[
    (&["src/domain/", "src/analysis/"], &["sqlx", "axum", "askama", "tokio", "candle", "reqwest", "clap"]),
    (&["src/report/"], &["sqlx", "candle", "axum", "askama"]),
];

/// Crates that one part of the program alone may name. `error.rs` turns their errors into ours.
const CONFINED_CRATES: &[(&[&str], &[&str])] =
    &[(&["sqlx"], &["src/store/", "src/error.rs"]), (&["axum", "askama"], &["src/web/"])];

/// Modules that a part of the program must not know.
const FORBIDDEN_MODULES: &[(&[&str], &[&str])] = &[
    (
        &[
            "src/dataset/",
            "src/model/",
            "src/weights/",
            "src/training/",
            "src/evaluation/",
            "src/explanation/",
            "src/inference/",
            "src/experiment/",
        ],
        &["store", "scheduler", "web", "report", "cli", "app", "config"],
    ),
    (
        &["src/domain/", "src/analysis/"],
        &[
            "dataset",
            "model",
            "weights",
            "training",
            "evaluation",
            "explanation",
            "inference",
            "store",
            "scheduler",
            "worker",
        ],
    ),
    (&["src/domain/", "src/analysis/", "src/report/", "src/store/"], &["web", "cli", "app", "config"]),
];

const MAX_LINES: usize = 450;

#[test]
fn the_parts_know_only_what_they_may() {
    check(imports);
}

#[test]
fn sql_stands_in_the_store_alone() {
    check(sql);
}

#[test]
fn unsafe_code_stands_in_ops_alone_and_says_why_it_is_sound() {
    check(unsafe_code);
    for root in ["src/main.rs", "src/lib.rs", "crates/jpeg/src/lib.rs"] {
        assert!(read(root).code_contains("forbid(unsafe_code)"), "{root} does not forbid unsafe code");
    }
}

#[test]
fn nothing_outside_tests_panics_on_purpose() {
    check(panics);
    let sources = sources();
    for (path, message, _) in EXPECTATIONS {
        let used = sources.iter().any(|source| source.path == *path && source.code_contains(message));
        assert!(used, "EXPECTATIONS allows {path} “{message}”, which is not there any more: remove the entry");
    }
}

#[test]
fn files_are_short() {
    check(length);
}

#[test]
fn nothing_names_a_place_on_somebodys_machine() {
    check(absolute_paths);
}

#[test]
fn every_dependency_has_its_reason() {
    let reasons = read("ARCHITECTURE.md");
    let mut named = 0;
    for manifest in ["Cargo.toml", "crates/jpeg/Cargo.toml", "crates/ops/Cargo.toml"] {
        let manifest = read(manifest);
        let mut of_interest = false;
        for line in &manifest.lines {
            if line.starts_with('[') {
                of_interest = line.ends_with("dependencies]") && !line.contains("workspace");
            } else if let Some((name, _)) =
                line.split_once([' ', '.', '=']).filter(|_| of_interest && !line.starts_with('#'))
            {
                named += 1;
                assert!(
                    reasons.code_contains(&format!("| `{name}` |")),
                    "ARCHITECTURE.md does not say why {name} is there"
                );
            }
        }
    }
    assert!(named > 30, "the dependencies were not found");
}

/// Applies one rule to every source file, and fails with all that it finds.
fn check(rule: fn(&Source) -> Vec<String>) {
    let found: Vec<String> = sources().iter().flat_map(rule).collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut sources = Vec::new();
    for directory in ["src", "crates", "tests", "benches"] {
        collect(root, &root.join(directory), &mut sources);
    }
    assert!(sources.len() > 20, "the source files were not found");
    sources
}

fn collect(root: &Path, directory: &Path, sources: &mut Vec<Source>) {
    // `benches` need not exist.
    let Ok(entries) = fs::read_dir(directory) else { return };
    for path in entries.map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            collect(root, &path, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().replace('\\', "/");
            sources.push(Source::parse(&name, &fs::read_to_string(&path).unwrap()));
        }
    }
}

fn read(path: &str) -> Source {
    Source::parse(path, &fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap())
}

fn within(path: &str, places: &[&str]) -> bool {
    places.iter().any(|place| path.starts_with(place) || path.strip_suffix(".rs") == place.strip_suffix('/'))
}

fn imports(source: &Source) -> Vec<String> {
    let mut found = Vec::new();
    let path = source.path.as_str();
    let tokens = source.outside_tests();
    let names = |name: &str| {
        // `candle` stands for candle_core and candle_nn too, `axum` for axum_extra.
        tokens.iter().find(|token| {
            token.ident().is_some_and(|ident| {
                ident == name || ident.strip_prefix(name).is_some_and(|rest| rest.starts_with('_'))
            })
        })
    };
    for (places, crates) in FORBIDDEN_CRATES {
        for name in crates.iter().filter(|_| within(path, places)) {
            found.extend(names(name).map(|token| format!("{path}:{}: {name} does not belong here", token.line)));
        }
    }
    for (crates, places) in CONFINED_CRATES {
        for name in crates.iter().filter(|_| path.starts_with("src/") && !within(path, places)) {
            let token = names(name);
            found.extend(token.map(|token| format!("{path}:{}: {name} stands in {places:?} alone", token.line)));
        }
    }
    let modules = source.modules();
    for (places, forbidden) in FORBIDDEN_MODULES {
        for (name, line) in
            modules.iter().filter(|(name, _)| within(path, places) && forbidden.contains(&name.as_str()))
        {
            found.push(format!("{path}:{line}: it must know nothing of {name}"));
        }
    }
    found
}

fn sql(source: &Source) -> Vec<String> {
    if !source.path.starts_with("src/") || within(&source.path, &["src/store/"]) {
        return Vec::new();
    }
    let is_sql = |text: &str| {
        let text = text.trim_start().to_ascii_lowercase();
        let starts = |words: &str| text.starts_with(words);
        (starts("select ") && text.contains(" from "))
            || starts("insert into ")
            || starts("delete from ")
            || starts("create table ")
            || (starts("update ") && text.contains(" set "))
    };
    let strings = source.outside_tests().into_iter().filter(|token| token.string().is_some_and(is_sql));
    strings.map(|token| format!("{}:{}: SQL stands in src/store alone", source.path, token.line)).collect()
}

fn unsafe_code(source: &Source) -> Vec<String> {
    let tokens = source.tokens.windows(2).filter(|pair| pair[0].ident() == Some("unsafe"));
    let complaints = tokens.filter_map(|pair| {
        let line = pair[0].line;
        if !source.path.starts_with("crates/ops/") {
            return Some(format!("{}:{line}: unsafe code stands in crates/ops alone", source.path));
        }
        // A type such as `unsafe fn(…)` or an attribute `unsafe(…)` claims nothing.
        let claims = pair[1].is('{') || matches!(pair[1].ident(), Some("fn" | "impl"));
        let said = source.comment_above(line).to_ascii_lowercase().contains("safety");
        (claims && !said).then(|| format!("{}:{line}: no SAFETY comment says why this is sound", source.path))
    });
    complaints.collect()
}

fn panics(source: &Source) -> Vec<String> {
    if !source.path.starts_with("src/") {
        return Vec::new();
    }
    let tokens = source.outside_tests();
    let mut found = Vec::new();
    for window in tokens.windows(4) {
        let line = window[0].line;
        let call = window[0].is('.') && window[2].is('(');
        let complaint = match window[1].ident() {
            Some("unwrap") if call => Some(".unwrap()"),
            Some("expect") if call && !expected(&source.path, window[3]) => {
                Some(".expect() that EXPECTATIONS does not allow")
            }
            _ => match window[0].ident() {
                Some("todo" | "unimplemented" | "dbg" | "panic") if window[1].is('!') => {
                    Some("a macro that panics or is left over")
                }
                _ => None,
            },
        };
        found.extend(complaint.map(|what| format!("{}:{line}: {what}", source.path)));
    }
    found
}

fn expected(path: &str, argument: &Token) -> bool {
    EXPECTATIONS.iter().any(|(file, message, _)| *file == path && argument.string() == Some(message))
}

fn length(source: &Source) -> Vec<String> {
    let limit = if source.path == "src/main.rs" { 40 } else { MAX_LINES };
    let lines = source.lines.len();
    (lines >= limit)
        .then(|| format!("{}: {lines} lines, the limit is below {limit}", source.path))
        .into_iter()
        .collect()
}

fn absolute_paths(source: &Source) -> Vec<String> {
    let is_place =
        |text: &str| ["home", "root", "work", "Users"].iter().any(|top| text.starts_with(&format!("/{top}/")));
    let strings = source.outside_tests().into_iter().filter(|token| token.string().is_some_and(is_place));
    strings.map(|token| format!("{}:{}: an absolute path", source.path, token.line)).collect()
}

/// Each rule must be able to fail: what it finds in `text`, were it the file `path`.
fn found(rule: fn(&Source) -> Vec<String>, path: &str, text: &str) -> usize {
    rule(&Source::parse(path, text)).len()
}

#[test]
fn a_forbidden_import_is_found_however_it_is_written() {
    for text in
        ["use sqlx::Row;", "use {std::io, sqlx::Row};", "fn f() { sqlx::query(\"x\"); }", "use candle_core::Tensor;"]
    {
        assert_eq!(found(imports, "src/report/run.rs", text), 1 + usize::from(text.contains("sqlx")), "{text}");
    }
    for text in ["use crate::store::Store;", "use crate::{domain::{Counts, RunId}, store::Store};", "crate::web::x();"]
    {
        assert_eq!(found(imports, "src/training/fit.rs", text), 1, "{text}");
    }
    assert_eq!(found(imports, "src/evaluation.rs", "use crate::store::Store;"), 1);
    assert_eq!(found(imports, "src/cli/run.rs", "use axum::Router;"), 1);
    assert_eq!(found(imports, "src/web/mod.rs", "use axum::Router;"), 0);
    assert_eq!(found(imports, "src/domain/ids.rs", "//! No sqlx.\n#[cfg(test)] mod tests { use tokio::test; }"), 0);
    assert_eq!(found(imports, "src/training/fit.rs", "use crate::{domain::store, model::web};"), 0);
}

#[test]
fn stray_sql_is_found() {
    assert_eq!(found(sql, "src/report/run.rs", "let q = \"select id from run\";"), 1);
    assert_eq!(found(sql, "src/report/run.rs", "let q = r#\"\n  UPDATE run SET a = 1\"#;"), 1);
    assert_eq!(found(sql, "src/store/runs.rs", "let q = \"select id from run\";"), 0);
    assert_eq!(found(sql, "src/web/mod.rs", "let q = \"select a file\"; // select id from run"), 0);
}

#[test]
fn unexplained_unsafe_code_is_found() {
    assert_eq!(found(unsafe_code, "src/model/mod.rs", "// SAFETY: none.\nunsafe { f() }"), 1);
    assert_eq!(found(unsafe_code, "crates/ops/src/x.rs", "let a = 1;\nunsafe { f() }"), 1);
    assert_eq!(found(unsafe_code, "crates/ops/src/x.rs", "// SAFETY: checked above.\nlet a =\n    unsafe { f() };"), 0);
    assert_eq!(
        found(unsafe_code, "crates/ops/src/x.rs", "/// # Safety\n/// Needs AVX2.\n#[inline]\nunsafe fn f() {}"),
        0
    );
}

#[test]
fn a_hidden_panic_is_found() {
    assert_eq!(found(panics, "src/app.rs", "fn f() { x.unwrap(); y.expect(\"z\"); todo!() }"), 3);
    assert_eq!(
        found(
            panics,
            "src/app.rs",
            "fn f() { x.unwrap_or(1); } // .unwrap()\n#[cfg(test)]\nmod t { fn g() { x.unwrap(); } }"
        ),
        0
    );
    assert_eq!(found(panics, "src/app.rs", "#[cfg(test)]\nmod tests;\nfn f() { x.unwrap(); }"), 1);
    assert_eq!(found(panics, "tests/it/app.rs", "fn f() { x.unwrap(); }"), 0);
}

#[test]
fn a_long_file_and_a_private_path_are_found() {
    assert_eq!(found(length, "src/app.rs", &"x\n".repeat(MAX_LINES)), 1);
    assert_eq!(found(length, "src/main.rs", &"x\n".repeat(40)), 1);
    assert_eq!(found(length, "src/main.rs", &"x\n".repeat(39)), 0);
    assert_eq!(found(absolute_paths, "src/app.rs", &format!("let p = \"/{}/me/data\";", "home")), 1);
    assert_eq!(found(absolute_paths, "src/app.rs", "let p = \"/runs/1/images\";"), 0);
}
