//! Some runs of the drill (`tests/drill`), so that the drill itself works, and what it found once is not back. Each draws
//! another server, another way and other faults.

use baton_tests::drill;

macro_rules! seeds {
    ($($name:ident: $seed:literal)*) => {
        $(#[test] fn $name() {
            let report = drill::run($seed);
            assert!(!report.failed, "{report}");
            println!("{report}");
        })*
    };
}

seeds! {
    a_promotion_that_is_interrupted_while_a_comes_back_with_clients: 109
    a_live_landing_among_cut_links_while_a_comes_back_with_its_agent: 110
    a_promoted_source_that_dies_while_its_replica_is_built: 123
    a_coordinator_that_is_killed_while_the_target_is_started: 136
    a_target_that_dies_while_it_writes_its_append_only_file: 137
    a_promotion_that_loses_its_coordinator_and_its_agent_and_is_aborted: 138
}
