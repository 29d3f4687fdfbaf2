//! Observes all hosts again and again. Each is asked once at a time, and one that does not answer keeps nobody waiting: what
//! is asked of it goes on while the others are looked at again.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use baton_proto::HostName;
use tokio::time::{Instant, timeout};

use super::{introduce, knock, names, reach, remember, resolve, unix_ms, view};
use crate::client::Agents;
use crate::inventory::{Inventory, InventoryHost};
use crate::topology::{Host, HostView, Knock, Probe, Topology, World};

/// How long the first look waits for everybody: most that is there answers within it, also from far away.
const FIRST_PATIENCE: Duration = Duration::from_secs(3);
/// How long a later look waits for those who answered within it the last time.
const PATIENCE: Duration = Duration::from_secs(1);
/// After this a host is silent, whatever it said before. Longer than an agent takes to report of a server that hangs (6 s).
const SILENT_AFTER: Duration = Duration::from_secs(8);

type Asking<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// Something that is asked again and again, once at a time.
struct Errand<'a, T> {
    running: Option<(Instant, Asking<'a, T>)>,
    last: Option<T>,
    /// Whether it is worth waiting for: it was quick the last time.
    quick: bool,
}

impl<'a, T> Errand<'a, T> {
    fn new() -> Self {
        Self { running: None, last: None, quick: true }
    }

    fn begin<F: Future<Output = T> + 'a>(&mut self, ask: impl FnOnce() -> F) {
        if self.running.is_none() {
            self.running = Some((Instant::now(), Box::pin(ask())));
        }
    }

    /// Goes on with it. Tells whether nobody need wait for it.
    fn poll(&mut self, context: &mut Context<'_>) -> bool {
        let Some((began, asking)) = &mut self.running else { return true };
        let Poll::Ready(answer) = asking.as_mut().poll(context) else { return !self.quick };
        self.quick = began.elapsed() <= PATIENCE;
        self.last = Some(answer);
        self.running = None;
        true
    }

    /// Since when it has been waited for.
    fn waits(&self) -> Duration {
        self.running.as_ref().map_or(Duration::ZERO, |(began, _)| began.elapsed())
    }
}

/// Goes on with errands until those are back that are worth waiting for.
async fn settle<T>(errands: &mut [&mut Errand<'_, T>], patience: Duration) {
    let all = std::future::poll_fn(|context| {
        let mut settled = true;
        for errand in &mut *errands {
            settled &= errand.poll(context);
        }
        if settled { Poll::Ready(()) } else { Poll::Pending }
    });
    // Who is not back by then is told by what it left undone.
    let _ = timeout(patience, all).await;
    for errand in errands {
        errand.quick &= errand.running.is_none();
    }
}

type Trials = (Vec<Probe>, Vec<Knock>);

/// The hosts of an inventory, looked at again and again.
pub struct Looks<'a> {
    inventory: &'a Inventory,
    agents: &'a Agents,
    hosts: BTreeMap<&'a HostName, (&'a InventoryHost, Errand<'a, Host>)>,
    /// Trials of servers and agents from other hosts.
    trials: Errand<'a, Trials>,
    patience: Duration,
}

impl<'a> Looks<'a> {
    pub fn new(inventory: &'a Inventory, agents: &'a Agents) -> Looks<'a> {
        let hosts = inventory.hosts.iter().map(|(name, host)| (name, (host, Errand::new()))).collect();
        Looks { inventory, agents, hosts, trials: Errand::new(), patience: FIRST_PATIENCE }
    }

    /// Looks once more.
    pub async fn look(&mut self) -> (World, Topology) {
        let agents = self.agents;
        for (name, (host, errand)) in &mut self.hosts {
            let (name, host) = (*name, *host);
            errand.begin(|| async move { view(agents, name, host).await });
        }
        let mut errands: Vec<_> = self.hosts.values_mut().map(|(_, errand)| errand).collect();
        settle(&mut errands, self.patience).await;
        let hosts = self.hosts.iter().map(|(name, (host, errand))| ((*name).clone(), shown(host, errand))).collect();
        let observed_unix = unix_ms(SystemTime::now()) / 1000;
        let mut world = World { hosts, observed_unix, revocations: agents.revocations(), ..World::default() };
        world.resolved = resolve(names(&world)).await;
        let mut topology = Topology::of(&world);
        remember(self.inventory, &mut world, &topology);
        introduce(agents, &world, &topology).await;
        let (questions, doors) = (topology.questions(), topology.doors());
        if questions.is_empty() {
            self.trials = Errand::new();
        } else {
            self.trials.begin(|| async move { tokio::join!(reach(agents, &questions), knock(agents, &doors)) });
            settle(&mut [&mut self.trials], self.patience).await;
            (world.probes, world.knocks) = self.trials.last.clone().unwrap_or_default();
            topology = Topology::of(&world);
        }
        self.patience = PATIENCE;
        (world, topology)
    }

    /// Lets time pass, in which what is still asked goes on.
    pub async fn rest(&mut self, pause: Duration) {
        let going_on = std::future::poll_fn(|context| {
            self.hosts.values_mut().for_each(|(_, errand)| {
                errand.poll(context);
            });
            self.trials.poll(context);
            Poll::<()>::Pending
        });
        let _ = timeout(pause, going_on).await;
    }
}

/// A host as it answered last; one that has been silent since is that.
fn shown(host: &InventoryHost, errand: &Errand<'_, Host>) -> Host {
    let silent = || {
        let error = "its agent has not answered yet".to_owned();
        Host { agent: host.agent.clone(), addresses: host.addresses.clone(), view: HostView::Unreachable { error } }
    };
    match &errand.last {
        Some(last) if errand.waits() < SILENT_AFTER || matches!(last.view, HostView::Unreachable { .. }) => {
            last.clone()
        }
        _ => silent(),
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::sleep;

    use super::*;
    use crate::topology::fixture::{healthy, host};

    async fn after(seconds: u64, answer: &str) -> String {
        sleep(Duration::from_secs(seconds)).await;
        answer.to_owned()
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_slow_is_waited_for_once_and_keeps_nobody_waiting_afterwards() {
        let (mut quick, mut slow) = (Errand::new(), Errand::new());
        let began = Instant::now();
        quick.begin(|| after(0, "first"));
        slow.begin(|| after(9, "late"));
        settle(&mut [&mut quick, &mut slow], PATIENCE).await;
        assert_eq!((quick.last.as_deref(), slow.last.as_deref()), (Some("first"), None));
        assert_eq!(began.elapsed(), PATIENCE);
        quick.begin(|| after(0, "second"));
        // It is still on its way: it is not asked twice at a time.
        slow.begin(|| async { panic!("asked twice") });
        settle(&mut [&mut quick, &mut slow], PATIENCE).await;
        assert_eq!((quick.last.as_deref(), began.elapsed()), (Some("second"), PATIENCE));
        sleep(Duration::from_secs(9)).await;
        settle(&mut [&mut quick, &mut slow], PATIENCE).await;
        assert_eq!(slow.last.as_deref(), Some("late"), "taken in when it comes");
        // Quick again: worth waiting for again.
        for _ in 0..2 {
            slow.begin(|| after(0, "soon"));
            sleep(Duration::from_millis(1)).await;
            settle(&mut [&mut slow], PATIENCE).await;
        }
        assert!(slow.quick);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_seen_of_a_host_that_fell_silent_is_not_shown_for_ever() {
        let answered = healthy().hosts.remove(&host("machine-b")).unwrap();
        let known = InventoryHost { agent: answered.agent.clone(), addresses: Vec::new() };
        let refused = Host { view: HostView::Unreachable { error: "refused".into() }, ..answered.clone() };
        let error = |errand: &Errand<'_, Host>| match shown(&known, errand).view {
            HostView::Unreachable { error } => error,
            HostView::Answered { .. } => "answered".to_owned(),
        };
        let mut errand = Errand::new();
        assert_eq!(error(&errand), "its agent has not answered yet");
        errand.last = Some(answered);
        errand.begin(std::future::pending);
        assert_eq!(error(&errand), "answered");
        sleep(SILENT_AFTER).await;
        assert_eq!(error(&errand), "its agent has not answered yet");
        errand.last = Some(refused);
        assert_eq!(error(&errand), "refused", "a reason is kept until there is another");
    }
}
