//! End to end: real `coord`, real agents, real servers. Each test has a world of its own (`baton_tests::world`).

mod access;
mod changed;
mod clone;
mod copy;
mod deposed;
mod discover;
mod feed;
mod gate;
mod harness;
mod live;
mod overlap;
mod peers;
mod plain;
mod promote;
mod rate;
mod refusals;
mod replace;
mod resume;
mod returning;
mod runs;
mod save;
mod scene;
mod status;
mod stream;
mod switchover;
mod transfer;
