//! In which keys this host's server differs from another: a deposed primary, fenced, from the one that took its place.
//!
//! ```text
//!   each database:  SCAN here  ──> TYPE, size on both ──> values, where types agree ──> what seems to differ, once more
//!                   SCAN there ──> TYPE here: only there? ──────────────────────────> once more
//!   values:  a string by GET · else by DUMP, and if that differs by elements, since encodings may · streams by DUMP alone
//! ```
//!
//! It is a report: nothing is changed on either side, and only commands that read are given. The other side serves
//! meanwhile, so what differs is looked at twice before it counts. Memory is bounded: of what is read only lengths and
//! digests stay, of what is found only counts and a few names. Large values are read in pieces, so that no server has to
//! hold its clients up for one of them.

mod resp;
mod show;
mod side;
mod survey;
mod tally;
mod value;
mod verdict;

use std::time::{Duration, Instant};

use baton_proto::compared::{Compared, Comparing};
use baton_proto::control::Progress;
use tokio::time::timeout;
use tracing::info;

use self::side::{Pair, Side, Stopped};
use self::tally::Tallies;
use crate::instance::Instance;
use crate::reach;
use crate::tasks::ProgressSink;

/// Compares, within the limit. What cannot be compared is told as that, and is no failure.
pub(crate) async fn compare(instance: &Instance, order: &Comparing, progress: &ProgressSink) -> Compared {
    let begun = Instant::now();
    let (limit, mut tallies) = (Duration::from_secs(order.limit_seconds.into()), Tallies::default());
    let show = |doing: String| progress.report(Progress { doing, ..Progress::default() });
    let work = async {
        show(format!("comparing with {}", order.with));
        let mut pair = connect(instance, order).await?;
        survey::survey(&mut pair, &mut tallies, |db, keys| {
            show(format!("comparing with {}: database {db}, {keys} keys", order.with));
        })
        .await
    };
    let stopped = match timeout(limit, work).await {
        Ok(Ok(())) => None,
        Ok(Err(Stopped(why))) => Some(why),
        Err(_) => Some(format!("stopped after {} s, which was its limit", order.limit_seconds)),
    };
    info!(instance = %instance.name(), with = %order.with, stopped, "compared what it holds");
    match stopped {
        Some(why) if tallies.nothing_seen() => Compared::NotMade { why },
        stopped => Compared::Made(Box::new(tallies.into_comparison(
            order.with.clone(),
            begun.elapsed().as_secs_f64(),
            stopped,
        ))),
    }
}

async fn connect(instance: &Instance, order: &Comparing) -> Result<Pair, Stopped> {
    let (stream, renames) =
        instance.connect_bare().await.map_err(|error| Stopped(error.fault(instance.name()).to_string()))?;
    let here = Side::new(format!("the server of instance `{}`", instance.name()), stream, renames);
    let stream = reach::connect(instance, &order.with).await.map_err(|reach| {
        Stopped(format!("{} cannot be asked: {}", order.with, show::escaped(reach.detail.as_bytes(), show::LINE)))
    })?;
    // How its commands may be renamed is only known on its own host: one that is will be told as unknown to it.
    Ok(Pair { here, there: Side::new(order.with.to_string(), stream, Default::default()) })
}
