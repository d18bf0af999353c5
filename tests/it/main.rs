mod architecture;
mod cli;
mod dataset;
mod training;
