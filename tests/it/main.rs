mod dataset;
mod training;
