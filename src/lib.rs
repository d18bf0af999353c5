#![forbid(unsafe_code)]
//! Twograin shows a team why its image classifiers are right.
//!
//! Data flow one way: [`dataset`] → [`training`] → [`evaluation`] → [`store`] → [`report`] → pages and API in [`web`]. A page and
//! its API endpoint call the same function of [`report`]. Training happens in a process of its own, [`worker`], which
//! [`scheduler`] starts and watches; they share nothing but HTTP messages and the files of an attempt.
//!
//! What each module must not know keeps it small, and `tests/it/architecture.rs` keeps it so:
//!
//! - [`domain`] and [`analysis`] are pure: no database, no web, no runtime, no tensors.
//! - [`dataset`], [`model`], [`weights`], [`training`], [`evaluation`], [`explanation`] and [`inference`] know nothing of store,
//!   scheduler and web.
//! - SQL stands in [`store`] alone, axum and askama in [`web`] alone; [`report`] has neither SQL nor tensors.
//! - There is no unsafe code but in the crate `twograin-ops`.
//!
//! [`app`] puts the parts together for a server, [`cli`] for a terminal; [`benchmark`] times the arithmetic, [`experiment`] plans
//! sets of runs. `ARCHITECTURE.md` tells the reasons.

pub mod analysis;
pub mod app;
pub mod benchmark;
pub mod cli;
pub mod config;
pub mod dataset;
pub mod demo;
pub mod domain;
pub mod error;
pub mod evaluation;
pub mod exchange;
pub mod experiment;
pub mod explanation;
pub mod inference;
pub mod model;
pub mod recent;
pub mod report;
pub mod scheduler;
pub mod services;
pub mod store;
pub mod training;
pub mod web;
pub mod weights;
pub mod worker;
