#![forbid(unsafe_code)]
//! Twograin.

pub mod analysis;
pub mod dataset;
pub mod domain;
pub mod error;
pub mod evaluation;
pub mod exchange;
pub mod explanation;
pub mod model;
pub mod report;
pub mod store;
pub mod training;
