//! The controller on simulated paths. Time is virtual, so every figure is the same in every run.

mod path;
mod rivals;

use std::time::Duration;

use self::path::{Flow, Kind, Path, Trouble, What};

/// Bytes a second.
const MBIT_200: f64 = 25e6;
const MBIT_500: f64 = 62.5e6;
const GBIT: f64 = 125e6;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// One bandwidth-delay product of queue, as most routers have.
fn long_path(rate: f64, rtt: Duration, loss: f64) -> Path {
    Path { rate, rtt, queue_bytes: (rate * rtt.as_secs_f64()).max(524_288.0), loss, trouble: None }
}

fn alone(path: &Path, seconds: u64) -> Flow {
    path.run(&[(Kind::Ours, ms(0))], Duration::from_secs(seconds)).remove(0)
}

#[test]
fn a_clean_long_path_is_filled_without_loss_and_without_a_queue() {
    let path = long_path(MBIT_200, ms(40), 0.0);
    let flow = alone(&path, 10);
    assert!(flow.rate(ms(1_000)..) >= 0.97 * path.rate, "{flow}");
    assert!(flow.lost_part() <= 0.01, "{flow}");
    assert!(flow.queueing(0.5) <= ms(18), "{flow}");
    assert!(flow.queueing(0.9) <= ms(25), "{flow}");
}

#[test]
fn the_rate_of_the_path_is_reached_within_half_a_second() {
    for (path, by) in [
        (long_path(MBIT_200, ms(40), 0.0), ms(450)),
        (long_path(MBIT_500, ms(60), 0.005), ms(800)),
        (long_path(GBIT, Duration::from_micros(500), 0.0), ms(50)),
    ] {
        let flow = alone(&path, 3);
        assert!(flow.rate(by..by + ms(300)) >= 0.9 * path.rate, "{path:?}: {flow}");
    }
}

#[test]
fn random_loss_up_to_the_bound_costs_little_more_than_what_is_lost() {
    for loss in [0.001, 0.005, 0.01, 0.018] {
        let path = long_path(MBIT_500, ms(60), loss);
        let flow = alone(&path, 8);
        assert!(flow.rate(ms(1_500)..) >= (0.96 - loss) * path.rate, "loss {loss}: {flow}");
        assert!(flow.lost_part() <= loss + 0.01, "loss {loss}: {flow}");
        assert!(flow.queueing(0.5) <= ms(20), "loss {loss}: {flow}");
    }
}

#[test]
fn more_loss_slows_it_and_does_not_stop_it() {
    for (loss, least) in [(0.03, 0.7), (0.06, 0.5), (0.10, 0.3)] {
        let path = long_path(MBIT_200, ms(40), loss);
        let flow = alone(&path, 10);
        assert!(flow.rate(ms(2_000)..) >= least * path.rate, "loss {loss}: {flow}");
    }
}

#[test]
fn loss_of_the_path_itself_does_not_stop_it_however_much_it_is() {
    for (loss, least) in [(0.14, 0.3), (0.17, 0.3), (0.20, 0.3), (0.30, 0.2), (0.40, 0.1)] {
        let path = long_path(MBIT_200, ms(40), loss);
        let flow = alone(&path, 20);
        assert!(flow.rate(ms(5_000)..) >= least * path.rate, "loss {loss}: {flow}");
        assert!(flow.queueing(0.5) <= ms(25), "loss {loss}: {flow}");
    }
}

#[test]
fn a_short_fast_path_is_filled() {
    let path = long_path(GBIT, Duration::from_micros(500), 0.0);
    let flow = alone(&path, 3);
    assert!(flow.rate(ms(100)..) >= 0.97 * path.rate, "{flow}");
    assert!(flow.lost_part() <= 0.005, "{flow}");
}

/// What a busy host keeps back comes all at once afterwards, which is not a path that carries more.
#[test]
fn a_short_path_is_not_flooded_by_a_host_that_is_busy_now_and_then() {
    for deaf in [1_000, 1_500, 2_000, 2_500, 3_000].map(Duration::from_micros) {
        let mut path = long_path(GBIT, Duration::from_micros(500), 0.0);
        let busy = What::Busy { deaf, every: ms(97) };
        path.trouble = Some(Trouble { from: ms(200), until: ms(3_000), what: busy });
        let flow = alone(&path, 3);
        assert!(flow.rate(ms(100)..) >= 0.97 * path.rate, "{deaf:?}: {flow}");
        assert!(flow.lost_part() <= 0.005, "{deaf:?}: {flow}");
    }
}

/// Start-up that runs out of data half-way has a window that nobody has tried.
#[test]
fn a_pause_in_startup_does_not_end_in_a_flood() {
    for from in [ms(500), ms(600), ms(700)] {
        let mut path = long_path(MBIT_500, ms(60), 0.005);
        path.trouble = Some(Trouble { from, until: from + ms(150), what: What::Idle });
        let flow = alone(&path, 6);
        assert!(flow.rate(ms(1_000)..ms(2_000)) >= 0.92 * path.rate, "{from:?}: {flow}");
        assert!(flow.lost_part() <= 0.02, "{from:?}: {flow}");
    }
}

#[test]
fn a_queue_shorter_than_the_headroom_is_not_flooded() {
    for part in [0.10, 0.25, 0.50] {
        let mut path = long_path(MBIT_200, ms(40), 0.0);
        path.queue_bytes *= part;
        let flow = alone(&path, 10);
        assert!(flow.rate(ms(1_000)..) >= 0.8 * path.rate, "queue {part}: {flow}");
        assert!(flow.lost_part() <= 0.03, "queue {part}: {flow}");
    }
}

#[test]
fn slow_and_fast_short_and_long_paths_are_filled() {
    for rate in [0.25e6, 1.25e6, 12.5e6, 125e6] {
        for rtt in [1, 10, 100] {
            let path = long_path(rate, ms(rtt), 0.0);
            let flow = alone(&path, 5);
            assert!(flow.rate(ms(2_000)..) >= 0.93 * path.rate, "{path:?}: {flow}");
            assert!(flow.lost_part() <= 0.02, "{path:?}: {flow}");
        }
    }
}

/// Runs both, and wants a part of the path's rate for each of them from a second after the later one's start.
fn share(rival: Kind, ours: Duration, theirs: Duration, least: f64) {
    let path = long_path(MBIT_200, ms(40), 0.0);
    let flows = path.run(&[(Kind::Ours, ours), (rival, theirs)], Duration::from_secs(60));
    let from = ours.max(theirs) + ms(1_000);
    for flow in &flows {
        assert!(flow.rate(from..) >= least * path.rate, "{from:?}: ours {}; {rival:?} {}", flows[0], flows[1]);
    }
}

#[test]
fn beside_cubic_each_has_a_quarter_if_ours_is_first() {
    share(Kind::Cubic, ms(0), ms(5_000), 0.25);
}

#[test]
fn beside_cubic_each_has_a_quarter_if_ours_is_second() {
    share(Kind::Cubic, ms(5_000), ms(0), 0.25);
}

#[test]
fn beside_cubic_each_has_a_quarter_if_both_begin_together() {
    share(Kind::Cubic, ms(0), ms(0), 0.25);
}

#[test]
fn beside_bbr_each_has_a_quarter_if_ours_is_first() {
    share(Kind::Bbr, ms(0), ms(5_000), 0.25);
}

/// BBR has filled the queue by then, whatever it is doing at the moment, and the path's own delay is not seen.
#[test]
fn beside_bbr_each_has_a_quarter_if_ours_is_second() {
    let path = long_path(MBIT_200, ms(40), 0.0);
    for later in [3_000, 4_000, 5_000, 6_100, 7_300, 8_500, 9_500, 12_000] {
        let flows = path.run(&[(Kind::Ours, ms(later)), (Kind::Bbr, ms(0))], ms(later + 50_000));
        let from = ms(later + 4_000);
        let [ours, theirs] = [&flows[0], &flows[1]].map(|flow| flow.rate(from..) / path.rate);
        assert!(ours >= 0.24 && theirs >= 0.25, "{later}: ours {}; BBR {}", flows[0], flows[1]);
    }
}

#[test]
fn beside_bbr_each_has_a_quarter_if_both_begin_together() {
    share(Kind::Bbr, ms(0), ms(0), 0.25);
}

#[test]
fn two_of_a_kind_share() {
    let path = long_path(MBIT_200, ms(40), 0.0);
    for later in [0, 3_000] {
        let flows = path.run(&[(Kind::Ours, ms(0)), (Kind::Ours, ms(later))], Duration::from_secs(30));
        for flow in &flows {
            assert!(flow.rate(ms(5_000)..) >= 0.3 * path.rate, "{later}: {} {}", flows[0], flows[1]);
        }
        let both: f64 = flows.iter().map(|flow| flow.rate(ms(5_000)..)).sum();
        assert!(both >= 0.95 * path.rate, "{later}: {} {}", flows[0], flows[1]);
    }
}

#[test]
fn what_a_rival_leaves_is_taken_within_two_seconds() {
    let path = long_path(MBIT_200, ms(40), 0.0);
    let flows = [(Kind::Ours, ms(0)), (Kind::CubicUntil(ms(12_000)), ms(2_000))];
    let flows = path.run(&flows, Duration::from_secs(16));
    assert!(flows[0].rate(ms(14_000)..) >= 0.9 * path.rate, "{} {}", flows[0], flows[1]);
}

#[test]
fn what_goes_wrong_for_a_while_is_made_up_for_soon_after() {
    let mut bad = Vec::new();
    for what in [What::Frozen, What::Cut, What::Slow(0.1), What::Slow(0.5), What::Idle] {
        for from in [20, 110, 190, 270, 400, 1_000].map(ms) {
            for lasts in [20, 150, 400, 2_500].map(ms) {
                for path in [long_path(MBIT_200, ms(40), 0.0), long_path(MBIT_500, ms(60), 0.005)] {
                    let until = from + lasts;
                    let path = Path { trouble: Some(Trouble { from, until, what }), ..path };
                    let flow = alone(&path, (until + ms(6_000)).as_secs());
                    // A queue of before is to drain first, and a silence is found out by a timer.
                    let after = until + ms(3_500);
                    if flow.rate(after..) < 0.85 * path.rate {
                        bad.push(format!("{what:?} from {from:?} for {lasts:?}, {:.0} MB/s: {flow}", path.rate / 1e6));
                    }
                }
            }
        }
    }
    assert!(bad.is_empty(), "{} of them:\n{}", bad.len(), bad.join("\n"));
}

#[test]
fn a_path_that_stutters_is_filled_as_far_as_it_moves() {
    let mut bad = Vec::new();
    for path in [long_path(MBIT_200, ms(40), 0.0), long_path(MBIT_500, ms(60), 0.005)] {
        for frozen in [5, 15, 40, 100] {
            for every in [50, 110, 300, 700].into_iter().filter(|every| *every > 2 * frozen) {
                for from in [0, 70, 1_000] {
                    let what = What::Stutter { frozen: ms(frozen), every: ms(every) };
                    let path = Path { trouble: Some(Trouble { from: ms(from), until: ms(60_000), what }), ..path };
                    let flow = alone(&path, 8);
                    let moves = 1.0 - frozen as f64 / every as f64;
                    if flow.rate(ms(2_000)..) < 0.4 * moves * path.rate {
                        bad.push(format!("{what:?} from {from}, {:.0} MB/s: {flow}", path.rate / 1e6));
                    }
                }
            }
        }
    }
    assert!(bad.is_empty(), "{} of them:\n{}", bad.len(), bad.join("\n"));
}
