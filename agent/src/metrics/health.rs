//! PURE: whether a balancer may send clients to a server. What is not known is no.

use baton_proto::report::{Link, Role, Running};

/// What a balancer wants of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wanted {
    Primary,
    Replica { max_lag_bytes: Option<u64> },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Health {
    Fit(String),
    Unfit(String),
}

impl Wanted {
    /// Of the page's name and what follows the question mark.
    pub(super) fn of(page: &str, query: Option<&str>) -> Result<Wanted, String> {
        let mut max_lag_bytes = None;
        for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some(("max_lag", size)) if page == "replica" => max_lag_bytes = Some(bytes(size)?),
                _ => return Err(format!("`{}` is not understood; /replica knows max_lag=10MB", clipped(pair))),
            }
        }
        Ok(if page == "primary" { Wanted::Primary } else { Wanted::Replica { max_lag_bytes } })
    }
}

/// Longest part of a query that is said back.
const ECHO_CHARS_MAX: usize = 40;

fn clipped(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(ECHO_CHARS_MAX).collect()
}

/// A size: a number, and kB, MB, GB (decimal) or KiB, MiB, GiB after it.
fn bytes(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{}` is no size such as 10MB", clipped(text));
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit: u64 = match unit {
        "" | "B" => 1,
        "kB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err(wrong()),
    };
    number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit)).ok_or_else(wrong)
}

/// What is known of a primary's claim to lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Claim {
    Stands,
    /// A run has put another in its place.
    Replaced,
    /// Its agent has just started, and not all of its peers have said whether one has.
    Unknown,
}

/// Judges by what was seen just now. `lag` is how far behind it was found.
pub(super) fn judge(
    wanted: &Wanted,
    running: Result<&Running, String>,
    claim: Claim,
    lag: Option<Result<u64, String>>,
) -> Health {
    let unfit = |why: &str| Health::Unfit(why.to_owned());
    let running = match running {
        Ok(running) if running.persistence.loading => return unfit("it is loading"),
        Ok(running) => running,
        Err(why) => return Health::Unfit(why),
    };
    match (wanted, &running.role) {
        // Its agent is about to stop its writes.
        (Wanted::Primary, Role::Primary { .. }) if claim == Claim::Replaced => {
            unfit("a run has put another primary in its place")
        }
        (Wanted::Primary, Role::Primary { .. }) if claim == Claim::Unknown => {
            unfit("it is not yet known whether it was replaced")
        }
        (Wanted::Primary, Role::Primary { .. }) => Health::Fit("it is a primary".into()),
        (Wanted::Primary, Role::Replica { primary, .. }) => Health::Unfit(format!("it follows {primary}")),
        (Wanted::Replica { .. }, Role::Primary { .. }) => unfit("it is a primary"),
        (Wanted::Replica { max_lag_bytes }, Role::Replica { primary, link: Link::Up { .. }, .. }) => {
            match (max_lag_bytes, lag) {
                (None, _) => Health::Fit(format!("it follows {primary}")),
                (Some(max), Some(Ok(lag))) if lag <= *max => Health::Fit(format!("it is {lag} bytes behind {primary}")),
                (Some(_), Some(Ok(lag))) => Health::Unfit(format!("it is {lag} bytes behind {primary}")),
                (Some(_), Some(Err(why))) => Health::Unfit(format!("how far it is behind is not known: {why}")),
                (Some(_), None) => unfit("how far it is behind is not known"),
            }
        }
        (Wanted::Replica { .. }, Role::Replica { primary, .. }) => {
            Health::Unfit(format!("it has no link to {primary}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::info::Info;

    fn running(role: &str) -> Running {
        let text = "redis_version:7.0.15\r\nprocess_id:1\r\nuptime_in_seconds:9\r\nconnected_clients:1\r\n\
            master_replid:c8f82b93fa07f703864ba1ffc7c2b2c42ac50bcb\r\nmaster_repl_offset:900\r\n\
            master_replid2:0000000000000000000000000000000000000000\r\nsecond_repl_offset:-1\r\nrepl_backlog_active:0\r\nrepl_backlog_size:1048576\r\n";
        let mut running = Info::parse(&format!("{text}role:master\r\nconnected_slaves:0\r\n")).running(0).unwrap();
        if role != "primary" {
            let link =
                if role == "linked" { Link::Up { last_io_seconds: 0 } } else { Link::Down { since_seconds: None } };
            running.role = Role::Replica { primary: "10.0.0.1:6379".parse().unwrap(), link, priority: 100 };
        }
        running.persistence.loading = role == "loading";
        running
    }

    #[test]
    fn a_balancer_is_sent_only_where_it_is_sure() {
        let replica = |max_lag_bytes| Wanted::Replica { max_lag_bytes };
        let table = [
            (Wanted::Primary, "primary", Claim::Stands, None, true),
            (Wanted::Primary, "primary", Claim::Replaced, None, false),
            (Wanted::Primary, "primary", Claim::Unknown, None, false),
            (replica(None), "linked", Claim::Unknown, None, true),
            (Wanted::Primary, "linked", Claim::Stands, None, false),
            (replica(None), "linked", Claim::Stands, None, true),
            (replica(None), "down", Claim::Stands, None, false),
            (replica(None), "loading", Claim::Stands, None, false),
            (replica(None), "primary", Claim::Stands, None, false),
            (replica(Some(10)), "linked", Claim::Stands, Some(Ok(10)), true),
            (replica(Some(10)), "linked", Claim::Stands, Some(Ok(11)), false),
            (replica(Some(10)), "linked", Claim::Stands, Some(Err("no password".into())), false),
            (replica(Some(10)), "linked", Claim::Stands, None, false),
        ];
        for (wanted, role, claim, lag, fit) in table {
            let judged = judge(&wanted, Ok(&running(role)), claim, lag.clone());
            assert_eq!(matches!(judged, Health::Fit(_)), fit, "{wanted:?} {role} {claim:?} {lag:?}: {judged:?}");
        }
        assert_eq!(judge(&Wanted::Primary, Err("gone".into()), Claim::Stands, None), Health::Unfit("gone".into()));
    }

    #[test]
    fn sizes_are_understood_or_refused() {
        let of = |query| Wanted::of("replica", Some(query));
        assert_eq!(of("max_lag=10MB"), Ok(Wanted::Replica { max_lag_bytes: Some(10_000_000) }));
        assert_eq!(of("max_lag=1KiB"), Ok(Wanted::Replica { max_lag_bytes: Some(1024) }));
        assert_eq!(of(""), Ok(Wanted::Replica { max_lag_bytes: None }));
        for bad in ["max_lag=", "max_lag=10 MB", "max_lag=-1", "max_lag=99999999999999999999GB", "lag=1", "max_lag"] {
            assert!(of(bad).is_err(), "{bad}");
        }
        assert!(Wanted::of("primary", Some("max_lag=1")).is_err());
    }
}
