#![forbid(unsafe_code)]
//! Twograin.

pub mod analysis;
pub mod app;
pub mod cli;
pub mod config;
pub mod dataset;
pub mod demo;
pub mod domain;
pub mod error;
pub mod evaluation;
pub mod exchange;
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
pub mod worker;
