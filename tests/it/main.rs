mod cli;
mod dataset;
mod training;
