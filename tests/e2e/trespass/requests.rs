//! Every request of the protocol and every action, in tables that the compiler keeps whole: a new variant is an error here,
//! until it says who may ask it and has a sample. The samples know all that can be known: the run that has the instance,
//! its turn, and the ticket of what is offered. What their askers lack is the right certificate.

use std::collections::BTreeMap;

use baton_proto::claim::Turn;
use baton_proto::compared::Comparing;
use baton_proto::control::{Action, Landing, Order, Request, SaveMethod, Saving, TaskId};
use baton_proto::data::{Budget, TICKET_SECRET_BYTES, Ticket};
use baton_proto::deposed::{Deposition, Standing};
use baton_proto::{FaultKind, HostName, HostPort, InstanceName, InstanceRef, Lineage, RunId};
use baton_tests::world::{A, B, C};

use crate::scene::TURN;

/// Whose a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Caller {
    Operator,
    Agent,
}
use Caller::{Agent, Operator};

macro_rules! requests {
    ($($variant:ident: $caller:ident, $sample:expr;)*) => {
        /// Who may ask.
        pub(crate) fn caller(request: &Request) -> Caller {
            match request { $(Request::$variant { .. } => $caller,)* }
        }

        /// One of each.
        pub(crate) fn requests() -> Vec<Request> {
            vec![$({
                let sample: Request = $sample;
                assert!(matches!(sample, Request::$variant { .. }), "{sample:?}");
                sample
            }),*]
        }
    };
}

macro_rules! actions {
    ($($variant:ident: $sample:expr;)*) => {
        /// One of each.
        pub(crate) fn actions() -> Vec<Action> {
            // A variant that is missing below does not compile.
            let _ = |action: &Action| match action { $(Action::$variant { .. } => {})* };
            vec![$({
                let sample: Action = $sample;
                assert!(matches!(sample, Action::$variant { .. }), "{sample:?}");
                sample
            }),*]
        }
    };
}

requests! {
    Observe: Operator, Request::Observe;
    Reach: Operator, Request::Reach { instance: default(), to: nowhere() };
    Knock: Operator, Request::Knock { host: host(C), address: nowhere() };
    Rehearse: Operator, Request::Rehearse { instance: default(), seconds: 1 };
    Claim: Operator, Request::Claim { instance: default(), run: run(), turn: next_turn() };
    Unclaim: Operator, Request::Unclaim { run: run(), turn: TURN };
    Record: Operator, Request::Record { run: run(), turn: TURN, at: 0, text: "forged".into(), last: true };
    Recall: Operator, Request::Recall { run: run(), at: 0 };
    Runs: Operator, Request::Runs;
    SigningRequest: Operator, Request::SigningRequest;
    Renew: Operator, Request::Renew { chain: "-----BEGIN CERTIFICATE-----".into() };
    Revoke: Operator, Request::Revoke { list: vec![0x30, 0x80] };
    Begin: Operator, order(Action::Promote);
    RecordAndBegin: Operator, recorded(0, "forged", &begun(Action::Promote));
    Watch: Operator, Request::Watch { task: task("none"), seen: 0, turn: Some(TURN) };
    Limit: Operator, Request::Limit { run: run(), max_rate: Some(1000) };
    Open: Agent, Request::Open { ticket: ticket(), session: 1 };
    Extent: Agent, Request::Extent { ticket: ticket(), seen: 0, held: 0 };
    Chunk: Agent, Request::Chunk { ticket: ticket(), index: 0, held: 0 };
    Seal: Agent, Request::Seal { ticket: ticket() };
    Spooled: Agent, Request::Spooled { ticket: ticket(), at: 0 };
    Tell: Agent, Request::Tell { deposition: Box::new(deposition()), age_seconds: 0 };
    Replaced: Agent, Request::Replaced;
    Peers: Operator, Request::Peers { peers: BTreeMap::from([(host("machine-x"), nowhere())]) };
}

actions! {
    Fence: Action::Fence { expect: lineage() };
    Depose: Action::Depose { deposition: Box::new(deposition()) };
    SaveAside: Action::SaveAside {
        deposition: Box::new(deposition()),
        compare: Some(Comparing { with: nowhere(), limit_seconds: 1 }),
    };
    Promote: Action::Promote;
    Follow: Action::Follow { to: nowhere(), expect: None, timeout_seconds: 1 };
    HandOver: Action::HandOver { to: nowhere(), canary: "x".into(), timeout_ms: 1 };
    KeepPrimary: Action::KeepPrimary { timeout_ms: 1 };
    AwaitWrites: Action::AwaitWrites { value: "x".into(), timeout_ms: 1 };
    Backlog: Action::Backlog { bytes: 1 << 26, hold_seconds: 60 };
    Spool: Action::Spool { hold_seconds: 60 };
    GiveBack: Action::GiveBack;
    Snapshot: Action::Snapshot { method: SaveMethod::Bgsave };
    Offer: Action::Offer { ticket: ticket(), to: host(A), budget: Budget::default() };
    Pull: Action::Pull {
        from: host(A),
        address: nowhere(),
        ticket: ticket(),
        landing: Landing::File { loads: false },
    };
    Stop: Action::Stop { save: Saving::Always };
    Install: Action::Install;
    Start: Action::Start { follow: None, timeout_seconds: 1 };
    EnableAof: Action::EnableAof { timeout_seconds: 1 };
    Persist: Action::Persist;
    WriteCanary: Action::WriteCanary { value: "x".into() };
    ReadCanary: Action::ReadCanary { value: "x".into(), timeout_seconds: 1 };
    DropCanary: Action::DropCanary;
    Restore: Action::Restore;
    Release: Action::Release { keep_old: false };
}

/// What the right caller may ask in vain, since it has no claim, turn or ticket, or names what is not there: with how it is
/// refused. A new request has to say what it needs.
pub(crate) fn lacking(request: &Request) -> Vec<(Request, FaultKind)> {
    let (unknown, other_run) = (InstanceName::new("none").unwrap(), RunId::new("fo-other").unwrap());
    let with_instance = |change: &dyn Fn(InstanceName) -> Request| (change(unknown.clone()), FaultKind::NotFound);
    match request.clone() {
        // They need no more than the right caller.
        Request::Observe | Request::Knock { .. } | Request::Runs | Request::SigningRequest | Request::Replaced => {
            vec![]
        }
        // It changes nothing, and is no error: what is wanted is so.
        Request::Unclaim { .. } => vec![],
        Request::Reach { to, .. } => vec![with_instance(&|instance| Request::Reach { instance, to: to.clone() })],
        Request::Rehearse { seconds, .. } => vec![with_instance(&|instance| Request::Rehearse { instance, seconds })],
        Request::Claim { instance, run, turn } => vec![
            with_instance(&|instance| Request::Claim { instance, run: run.clone(), turn }),
            (Request::Claim { instance: instance.clone(), run: other_run, turn }, FaultKind::Held),
            (Request::Claim { instance, run: run.clone(), turn: stale_turn() }, FaultKind::Held),
        ],
        Request::Record { run, at, text, last, .. } => {
            let record = |run: &RunId, turn| Request::Record { run: run.clone(), turn, at, text: text.clone(), last };
            vec![(record(&other_run, TURN), FaultKind::Held), (record(&run, stale_turn()), FaultKind::Held)]
        }
        Request::Recall { .. } => vec![(Request::Recall { run: other_run, at: 0 }, FaultKind::NotFound)],
        // No key was made, of which this could be the certificate; no authority has signed this.
        Request::Renew { chain } => vec![(Request::Renew { chain }, FaultKind::NotFound)],
        Request::Revoke { list } => vec![(Request::Revoke { list }, FaultKind::Invalid)],
        Request::Begin(order) => actions().into_iter().flat_map(|action| orders(&order, &action)).collect(),
        Request::RecordAndBegin { at, text, order } => {
            let recorded = |(request, kind)| match request {
                Request::Begin(order) => (recorded(at, &text, &order), kind),
                other => (other, kind),
            };
            orders(&order, &order.action).into_iter().map(recorded).collect()
        }
        Request::Watch { task, seen, turn } => vec![(Request::Watch { task, seen, turn }, FaultKind::NotFound)],
        Request::Limit { max_rate, .. } => {
            vec![
                (Request::Limit { run: other_run, max_rate }, FaultKind::NotFound),
                (Request::Limit { run: run(), max_rate: Some(1) }, FaultKind::Invalid),
            ]
        }
        // It is about another host, or about a history that is not this server's.
        Request::Tell { deposition, age_seconds } => {
            let elsewhere = Box::new(Deposition { host: host(A), ..*deposition.clone() });
            vec![
                (Request::Tell { deposition: elsewhere, age_seconds }, FaultKind::NotFound),
                (Request::Tell { deposition, age_seconds }, FaultKind::Refused),
            ]
        }
        Request::Open { session, .. } => with_tickets(|ticket| Request::Open { ticket, session }),
        Request::Extent { seen, held, .. } => with_tickets(|ticket| Request::Extent { ticket, seen, held }),
        Request::Chunk { index, held, .. } => with_tickets(|ticket| Request::Chunk { ticket, index, held }),
        Request::Seal { .. } => with_tickets(|ticket| Request::Seal { ticket }),
        Request::Spooled { at, .. } => with_tickets(|ticket| Request::Spooled { ticket, at }),
        Request::Peers { .. } => {
            let peers = (0..65).map(|n| (host(&format!("m{n}")), nowhere())).collect();
            vec![(Request::Peers { peers }, FaultKind::Refused)]
        }
    }
}

/// An order without the claim, of another run, and of a turn that is over.
fn orders(order: &Order, action: &Action) -> Vec<(Request, FaultKind)> {
    let order = Order { action: action.clone(), ..order.clone() };
    let other = TaskId { run: RunId::new("fo-other").unwrap(), name: "x".into() };
    vec![
        (Request::Begin(Order { task: other, ..order.clone() }), FaultKind::Held),
        (Request::Begin(Order { turn: stale_turn(), ..order.clone() }), FaultKind::Held),
        (Request::Begin(Order { turn: next_turn(), ..order.clone() }), FaultKind::Held),
        (Request::Begin(Order { instance: InstanceName::new("none").unwrap(), ..order }), FaultKind::NotFound),
    ]
}

/// Tickets that open nothing: a wrong secret, none, a longer one, and one for a run that offers nothing.
fn with_tickets(request: impl Fn(Ticket) -> Request) -> Vec<(Request, FaultKind)> {
    let of = |secret: Vec<u8>| Ticket { secret, ..ticket() };
    let mut nearly = ticket().secret;
    nearly[TICKET_SECRET_BYTES - 1] ^= 1;
    let longer = [ticket().secret, vec![0]].concat();
    let elsewhere = Ticket { run: RunId::new("fo-other").unwrap(), ..ticket() };
    let wrong = [nearly, Vec::new(), longer].map(|secret| (request(of(secret)), FaultKind::NotAllowed));
    wrong.into_iter().chain([(request(elsewhere), FaultKind::NotFound)]).collect()
}

/// An order in the turn that has the instance.
pub(crate) fn order(action: Action) -> Request {
    Request::Begin(begun(action))
}

fn begun(action: Action) -> Order {
    Order { task: task("trespass"), turn: TURN, instance: default(), action }
}

fn recorded(at: u64, text: &str, order: &Order) -> Request {
    Request::RecordAndBegin { at, text: text.to_owned(), order: order.clone() }
}

/// The run that has B, and offers its snapshot to C.
pub(crate) fn run() -> RunId {
    RunId::new("fo-owner").unwrap()
}

pub(crate) fn ticket() -> Ticket {
    Ticket { run: run(), secret: vec![0xa5; TICKET_SECRET_BYTES] }
}

pub(crate) fn task(name: &str) -> TaskId {
    TaskId { run: run(), name: name.into() }
}

pub(crate) fn default() -> InstanceName {
    InstanceName::new("default").unwrap()
}

pub(crate) fn host(name: &str) -> HostName {
    HostName::new(name).unwrap()
}

fn stale_turn() -> Turn {
    Turn { epoch: 0, ..TURN }
}

fn next_turn() -> Turn {
    Turn { epoch: TURN.epoch + 1, ..TURN }
}

fn nowhere() -> HostPort {
    HostPort::new("127.0.0.1", 1)
}

fn lineage() -> Lineage {
    Lineage { id: "8c0e2b5c4e1a3d9f8c0e2b5c4e1a3d9f8c0e2b5c".parse().unwrap(), offset: 1024 }
}

/// A note that B's server was replaced.
pub(crate) fn deposition() -> Deposition {
    Deposition {
        run: RunId::new("fo-forged").unwrap(),
        host: host(B),
        instance: Some(default()),
        agent: nowhere(),
        address: nowhere(),
        fork: lineage(),
        successor: InstanceRef { host: host(C), instance: default() },
        successor_address: nowhere(),
        standing: Standing::Deposed,
        since_unix: 1,
        seal: None,
    }
}
