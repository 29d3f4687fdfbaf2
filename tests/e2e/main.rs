//! End to end: real `coord`, real agents, real servers. Each test has a world of its own (`baton_tests::world`).

mod harness;
