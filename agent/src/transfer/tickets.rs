//! The source's table of tickets: which agent may pull what. It judges; what is offered is the caller's business.

use std::collections::BTreeMap;

use baton_proto::data::Ticket;
use baton_proto::{Fault, FaultKind, HostName, RunId};

/// Most offers at a time. A host has a few instances, and a run offers one snapshot and takes the offer back at its end;
/// runs that were given up leave theirs until the agent restarts.
pub const OFFERS_MAX: usize = 256;

/// Why a peer gets nothing. No text repeats a secret or tells whom a ticket was made for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TicketError {
    #[error("no snapshot is offered here for run {0}")]
    NoOffer(RunId),
    #[error("the ticket that the agent of {peer} shows is not the one of run {run}")]
    WrongSecret { run: RunId, peer: HostName },
    #[error("the ticket of run {run} was not given to the agent of {peer}")]
    WrongPeer { run: RunId, peer: HostName },
    #[error("{OFFERS_MAX} snapshots are offered already")]
    Full,
}

impl From<TicketError> for Fault {
    fn from(error: TicketError) -> Fault {
        match error {
            TicketError::NoOffer(_) => Fault::new(FaultKind::NotFound, error)
                .hint("the offer was released, or the agent was restarted since: the snapshot has to be offered again"),
            TicketError::WrongSecret { .. } | TicketError::WrongPeer { .. } => Fault::new(FaultKind::NotAllowed, error),
            TicketError::Full => {
                Fault::new(FaultKind::Refused, error).hint("end runs that were left open: `coord runs` lists them")
            }
        }
    }
}

struct Entry<T> {
    ticket: Ticket,
    to: HostName,
    offered: T,
}

/// Tickets, and what each of them opens.
pub struct Tickets<T> {
    entries: BTreeMap<RunId, Entry<T>>,
}

impl<T> Default for Tickets<T> {
    fn default() -> Self {
        Self { entries: BTreeMap::new() }
    }
}

impl<T> Tickets<T> {
    /// Lets the agent of `to` have what is offered. A run offers one thing: an earlier offer of it is replaced.
    pub fn insert(&mut self, ticket: Ticket, to: HostName, offered: T) -> Result<(), TicketError> {
        if self.entries.len() >= OFFERS_MAX && !self.entries.contains_key(&ticket.run) {
            return Err(TicketError::Full);
        }
        self.entries.insert(ticket.run.clone(), Entry { ticket, to, offered });
        Ok(())
    }

    /// Finds what a peer may have with the ticket that it shows.
    pub fn lookup(&self, peer: &HostName, shown: &Ticket) -> Result<&T, TicketError> {
        let run = &shown.run;
        let entry = self.entries.get(run).ok_or_else(|| TicketError::NoOffer(run.clone()))?;
        if !entry.ticket.matches(shown) {
            return Err(TicketError::WrongSecret { run: run.clone(), peer: peer.clone() });
        }
        if entry.to != *peer {
            return Err(TicketError::WrongPeer { run: run.clone(), peer: peer.clone() });
        }
        Ok(&entry.offered)
    }

    /// What a run offers now, whoever may have it.
    pub fn offered(&self, run: &RunId) -> Option<&T> {
        self.entries.get(run).map(|entry| &entry.offered)
    }

    /// Takes an offer back.
    pub fn revoke(&mut self, run: &RunId) -> Option<T> {
        self.entries.remove(run).map(|entry| entry.offered)
    }
}

#[cfg(test)]
mod tests {
    use baton_proto::data::TICKET_SECRET_BYTES;

    use super::*;

    fn ticket(run: &str, secret: u8) -> Ticket {
        Ticket { run: RunId::new(run).unwrap(), secret: vec![secret; TICKET_SECRET_BYTES] }
    }

    fn host(name: &str) -> HostName {
        HostName::new(name).unwrap()
    }

    fn table() -> Tickets<&'static str> {
        let mut tickets = Tickets::default();
        tickets.insert(ticket("fo-1", 0xab), host("machine-c"), "snapshot").unwrap();
        tickets
    }

    #[test]
    fn only_the_agent_with_the_ticket_of_the_run_gets_anything() {
        let tickets = table();
        assert_eq!(tickets.lookup(&host("machine-c"), &ticket("fo-1", 0xab)), Ok(&"snapshot"));
        let refused = |peer: &str, shown: &Ticket| tickets.lookup(&host(peer), shown).unwrap_err();
        assert!(matches!(refused("machine-c", &ticket("fo-1", 0xac)), TicketError::WrongSecret { .. }));
        assert!(matches!(refused("machine-d", &ticket("fo-1", 0xab)), TicketError::WrongPeer { .. }));
        assert!(matches!(refused("machine-c", &ticket("fo-2", 0xab)), TicketError::NoOffer(_)));
        let short = Ticket { secret: Vec::new(), ..ticket("fo-1", 0) };
        assert!(matches!(refused("machine-c", &short), TicketError::WrongSecret { .. }));
    }

    #[test]
    fn a_refusal_tells_neither_the_secret_nor_for_whom_it_is() {
        let tickets = table();
        for (peer, shown) in [("machine-d", ticket("fo-1", 0xab)), ("machine-d", ticket("fo-1", 0xcd))] {
            let fault = Fault::from(tickets.lookup(&host(peer), &shown).unwrap_err());
            let text = format!("{fault:?}");
            assert_eq!(fault.kind, FaultKind::NotAllowed);
            assert!(!text.contains("machine-c") && !text.contains("171") && !text.contains("ab, ab"), "{text}");
        }
    }

    #[test]
    fn a_run_offers_one_thing_and_takes_it_back() {
        let mut tickets = table();
        tickets.insert(ticket("fo-1", 7), host("machine-d"), "newer").unwrap();
        assert!(tickets.lookup(&host("machine-c"), &ticket("fo-1", 0xab)).is_err());
        assert_eq!(tickets.lookup(&host("machine-d"), &ticket("fo-1", 7)), Ok(&"newer"));
        let run = RunId::new("fo-1").unwrap();
        assert_eq!(tickets.offered(&run), Some(&"newer"));
        assert_eq!((tickets.revoke(&run), tickets.revoke(&run)), (Some("newer"), None));
        assert!(matches!(tickets.lookup(&host("machine-d"), &ticket("fo-1", 7)), Err(TicketError::NoOffer(_))));
    }

    #[test]
    fn the_table_is_bounded_and_a_full_one_still_renews() {
        let mut tickets = Tickets::default();
        for number in 0..OFFERS_MAX {
            tickets.insert(ticket(&format!("fo-{number}"), 1), host("machine-c"), number).unwrap();
        }
        assert_eq!(tickets.insert(ticket("fo-more", 1), host("machine-c"), 0), Err(TicketError::Full));
        assert_eq!(tickets.insert(ticket("fo-0", 1), host("machine-c"), 0), Ok(()));
    }
}
