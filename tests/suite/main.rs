//! The tests of the whole, by intent. One binary.

mod api;
mod architecture;
mod daemon;
mod main_job;
mod purse;
mod refusals;
