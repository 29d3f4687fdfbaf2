//! The copies of a journal on hosts, and how they are brought up to its end: each host is told by itself, one telling at a
//! time; or, where it is acted on next, by the order that does so. A host that does not answer is passed over, and gets what
//! it missed once it does. Left out: how a host is told (see [`super::kept`]), and how an order brings a journal's end
//! ([`Carried`]).

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use baton_proto::{Fault, FaultKind, HostName, RunId};
use tokio::time::{Instant, sleep, timeout};

use super::JournalError;
use crate::client::Carried;

/// How long a host may take to keep what it is told. Its disk may have a whole snapshot to write first.
const TELL_TIMEOUT: Duration = Duration::from_secs(20);
/// How long it is waited for, where another host keeps it.
const PATIENCE: Duration = Duration::from_secs(3);
/// The same for one that was late the last time: a host that is gone must not hold up every step.
const IMPATIENCE: Duration = Duration::from_millis(300);
/// How often a host that does not keep it is told anew, while something is done.
const RETRY_EVERY: Duration = Duration::from_secs(1);

/// How long hosts that are not acted on wait for news, where the others may have it by their orders: a step that ends sooner is
/// told with the next one, which may act on them.
const LINGER: Duration = Duration::from_millis(100);

/// Tells a host all of a journal from a byte on.
type Tell<'a> = Box<dyn Fn(HostName, usize, Arc<str>) -> Telling<'a> + Send + 'a>;
type Telling<'a> = Pin<Box<dyn Future<Output = Result<(), Fault>> + Send + 'a>>;

/// Who must have been told before something is done. One must keep it in any case.
#[derive(Debug, Clone, Copy)]
pub(super) enum Wanted<'a> {
    All,
    These(&'a [HostName]),
}

impl Wanted<'_> {
    fn is(&self, host: &HostName) -> bool {
        match self {
            Wanted::All => true,
            Wanted::These(hosts) => hosts.contains(host),
        }
    }
}

pub(super) struct Copies<'a> {
    tell: Tell<'a>,
    run: RunId,
    carried: &'a Carried,
    text: Arc<str>,
    copies: Vec<Copy<'a>>,
    /// Those to which orders may bring the end.
    carriers: Vec<HostName>,
    /// The others are not told yet.
    lingers: bool,
}

struct Copy<'a> {
    host: HostName,
    /// How much of the journal it keeps.
    bytes: usize,
    /// How much of it was tried to have it keep.
    tried: usize,
    telling: Option<Telling<'a>>,
    /// The next order brings it what was tried.
    is_lent: bool,
    /// Why it does not keep what was tried.
    fault: Option<Fault>,
    /// It was passed over, and has kept nothing since.
    is_late: bool,
}

impl<'a> Copies<'a> {
    pub(super) fn new(
        hosts: impl IntoIterator<Item = HostName>,
        (run, carried): (RunId, &'a Carried),
        tell: impl Fn(HostName, usize, Arc<str>) -> Telling<'a> + Send + 'a,
    ) -> Copies<'a> {
        let none = |host| Copy { host, bytes: 0, tried: 0, telling: None, is_lent: false, fault: None, is_late: false };
        let (text, copies) = ("".into(), hosts.into_iter().map(none).collect());
        Copies { tell: Box::new(tell), run, carried, text, copies, carriers: Vec::new(), lingers: false }
    }

    /// Has hosts told a journal that goes on, and waits until those that are wanted keep it, will have it by their next order
    /// or are passed over, and one at least keeps it where one is passed over. If none does, that is an error; so is that
    /// another coordinator has the run, as soon as one host says so.
    pub(super) async fn bring_up_to(&mut self, text: &Arc<str>, wanted: Wanted<'_>) -> Result<(), JournalError> {
        self.recall();
        self.carried.renew(&self.run, text.len());
        self.text = Arc::clone(text);
        if let Wanted::These(hosts) = wanted {
            self.carriers = hosts.to_vec();
            self.lingers = self.copies.iter().any(|copy| hosts.contains(&copy.host) && copy.is_sound());
        }
        let (mut patience, mut impatience) = (pin!(sleep(PATIENCE)), pin!(sleep(IMPATIENCE)));
        let told = poll_fn(|context| {
            loop {
                while self.poll_told(context).is_ready() {}
                if let Some(fault) = self.held() {
                    return Poll::Ready(Err(JournalError::Held(fault)));
                }
                let over = [patience.as_mut().poll(context), impatience.as_mut().poll(context)];
                let [late, impatient] = over.map(|over| over.is_ready());
                let kept = self.copies.iter().any(|copy| copy.bytes == self.text.len());
                let lent = self.copies.iter().any(|copy| copy.is_lent);
                let (mut is_awaited, mut is_passed_over) = (false, false);
                for copy in self.copies.iter_mut().filter(|copy| !copy.is_lent && copy.bytes < self.text.len()) {
                    let (told, is_wanted) = (copy.telling.is_some(), wanted.is(&copy.host));
                    if told && !kept && !lent {
                        is_awaited = true;
                    } else if told && is_wanted {
                        copy.is_late |= late;
                        is_awaited |= !(copy.is_late && impatient);
                    }
                    is_passed_over |= is_wanted;
                }
                if is_awaited && self.lingers && !kept && !lent && impatient {
                    // Those that are to bring it are told something else meanwhile, and are slow.
                    self.lingers = false;
                    continue;
                }
                if is_awaited {
                    return Poll::Pending;
                }
                if kept || lent && !is_passed_over {
                    return Poll::Ready(Ok(()));
                }
                if !lent && !self.lingers {
                    return Poll::Ready(Err(self.missed()));
                }
                // Somebody has to keep it, and is given as long as ever.
                self.recall();
                patience.as_mut().reset(Instant::now() + PATIENCE);
            }
        });
        let told = told.await;
        self.carriers.clear();
        told
    }

    /// Looks what orders have brought, and has nothing more brought so: it is told.
    fn recall(&mut self) {
        self.carriers.clear();
        self.lingers = false;
        for copy in self.copies.iter_mut().filter(|copy| copy.is_lent) {
            copy.is_lent = false;
            match self.carried.recall(&self.run, &copy.host) {
                true => copy.bytes = copy.tried,
                false => copy.tried = copy.bytes,
            }
        }
    }

    /// Goes on telling those that were not waited for, or were passed over. Ends only when a host says that another coordinator
    /// has the run.
    pub(super) async fn spread(&mut self) -> Fault {
        loop {
            let pause = if self.lingers { LINGER } else { RETRY_EVERY };
            let told = poll_fn(|context| {
                while self.poll_told(context).is_ready() {}
                self.held().map_or(Poll::Pending, Poll::Ready)
            });
            if let Ok(held) = timeout(pause, told).await {
                return held;
            }
            if std::mem::take(&mut self.lingers) {
                continue;
            }
            // Its order may come only after a long one of the same step.
            self.recall();
            for copy in self.copies.iter_mut().filter(|copy| copy.telling.is_none()) {
                copy.tried = copy.bytes;
            }
        }
    }

    /// Ready whenever a host has been told, or passed over.
    fn poll_told(&mut self, context: &mut Context<'_>) -> Poll<()> {
        for copy in &mut self.copies {
            let is_carrier = self.carriers.contains(&copy.host);
            if copy.telling.is_none() && copy.tried < self.text.len() && (is_carrier || !self.lingers) {
                copy.tried = self.text.len();
                if is_carrier && copy.is_sound() && self.carried.lend(&self.run, &copy.host, copy.bytes, &self.text) {
                    copy.is_lent = true;
                    continue;
                }
                let host = copy.host.clone();
                let telling = (self.tell)(host.clone(), copy.bytes, Arc::clone(&self.text));
                let telling = async move { timeout(TELL_TIMEOUT, telling).await.unwrap_or_else(|_| Err(late(&host))) };
                copy.telling = Some(Box::pin(telling));
            }
            if let Some(telling) = &mut copy.telling
                && let Poll::Ready(told) = telling.as_mut().poll(context)
            {
                copy.telling = None;
                copy.fault = told.err();
                copy.is_late = copy.fault.is_some();
                if copy.fault.is_none() {
                    copy.bytes = copy.tried;
                    self.carried.kept(&self.run, copy.bytes);
                }
                return Poll::Ready(());
            }
        }
        Poll::Pending
    }

    /// That another coordinator has the run, if a host has said so.
    fn held(&self) -> Option<Fault> {
        let mut faults = self.copies.iter().filter_map(|copy| copy.fault.as_ref());
        faults.find(|fault| fault.kind == FaultKind::Held).cloned()
    }

    /// Why no host keeps the journal.
    fn missed(&self) -> JournalError {
        let missed = self.copies.iter().rev().find_map(|copy| copy.fault.clone());
        let missed = missed.unwrap_or_else(|| Fault::new(FaultKind::NotFound, "no host takes part"));
        match missed.kind {
            // No host has anything of the run.
            FaultKind::NotFound => JournalError::Held(missed),
            _ => JournalError::NoCopy(missed),
        }
    }
}

impl Copy<'_> {
    /// It keeps all that it was told, as far as is known.
    fn is_sound(&self) -> bool {
        self.bytes > 0 && self.fault.is_none() && !self.is_late
    }
}

fn late(host: &HostName) -> Fault {
    Fault::new(FaultKind::Peer, format!("the agent of {host} did not answer in time"))
}

#[cfg(test)]
mod tests;
