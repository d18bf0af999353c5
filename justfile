# Common commands. `just` lists them.

_list:
    @just --list --unsorted

# Start with the demo data set on http://127.0.0.1:8080
demo *ARGS:
    cargo run --release -- demo {{ARGS}}

# Start the server on ./twograin-data
serve *ARGS:
    cargo run --release -- serve {{ARGS}}

# All tests, or those whose name contains FILTER
test *FILTER:
    cargo test {{FILTER}}

# Format and lint
check:
    cargo fmt --all
    cargo clippy --workspace --all-targets -- -D warnings

# Everything that must hold before a change is accepted
ci:
    .ci/run

# Refresh .sqlx after a change of queries or schema (needs sqlx-cli, see CONTRIBUTING.md)
sqlx:
    #!/usr/bin/env bash
    set -euo pipefail
    scratch=$(mktemp -d)
    trap 'rm -rf "$scratch"' EXIT
    export DATABASE_URL="sqlite://$scratch/schema.db"
    cargo sqlx database create
    cargo sqlx migrate run --source migrations
    cargo sqlx prepare -- --all-targets

# The API documentation of the crates themselves
doc:
    cargo doc --workspace --no-deps --document-private-items --open
