//! One of every message, and of every variant in one, with every field told. A variant without a sample does not compile.

pub(crate) mod orders;
pub(crate) mod outcomes;
pub(crate) mod reports;
pub(crate) mod requests;

use std::collections::BTreeMap;

use baton_proto::claim::Turn;
use baton_proto::data::Ticket;
use baton_proto::deposed::{Deposition, Standing};
use baton_proto::hello::Hello;
use baton_proto::version::{Magic, Product, RdbFormat, ServerVersion};
use baton_proto::{Fault, FaultKind, HostName, HostPort, InstanceName, InstanceRef, Lineage, RunId};

/// Lists one value of each variant of an enum, in a function of the given name.
macro_rules! every {
    ($(#[$doc:meta])* $name:ident: $type:ident { $($variant:ident = $value:expr,)* }) => {
        $(#[$doc])*
        pub(crate) fn $name() -> Vec<(&'static str, $type)> {
            // Each variant has its line here, or this does not compile.
            #[allow(dead_code)]
            fn complete(value: &$type) {
                match value { $($type::$variant { .. } => {})* }
            }
            vec![$({
                let value = $value;
                assert!(matches!(value, $type::$variant { .. }), "{} is another variant", stringify!($variant));
                (stringify!($variant), value)
            }),*]
        }
    };
}
pub(crate) use every;

pub(crate) fn host(name: &str) -> HostName {
    HostName::new(name).unwrap()
}

pub(crate) fn instance() -> InstanceName {
    InstanceName::new("default").unwrap()
}

pub(crate) fn at(address: &str) -> HostPort {
    address.parse().unwrap()
}

pub(crate) fn run() -> RunId {
    RunId::new("fo-7k2m").unwrap()
}

pub(crate) fn turn() -> Turn {
    Turn { epoch: 2, holder: u64::MAX - 1 }
}

pub(crate) fn lineage() -> Lineage {
    Lineage { id: "c8f82b93fa07f703864ba1ffc7c2b2c42ac50bcb".parse().unwrap(), offset: 1 << 40 }
}

pub(crate) fn ticket() -> Ticket {
    Ticket { run: run(), secret: (0..32).collect() }
}

pub(crate) fn version() -> ServerVersion {
    ServerVersion { product: Product::Redis, major: 7, minor: 0, patch: 15 }
}

pub(crate) fn format() -> RdbFormat {
    RdbFormat { magic: Magic::Redis, number: 10 }
}

pub(crate) fn peers() -> BTreeMap<HostName, HostPort> {
    BTreeMap::from([(host("machine-a"), at("10.0.0.1:7400"))])
}

pub(crate) fn deposition() -> Deposition {
    Deposition {
        run: run(),
        host: host("machine-a"),
        instance: Some(instance()),
        agent: at("10.0.0.1:7400"),
        address: at("10.0.0.1:6379"),
        fork: lineage(),
        successor: InstanceRef { host: host("machine-c"), instance: instance() },
        successor_address: at("10.0.0.3:6379"),
        standing: Standing::Reinstated,
        since_unix: 1_764_000_000,
        seal: Some("AA==.AA==".into()),
    }
}

pub(crate) fn fault() -> Fault {
    Fault {
        kind: FaultKind::Host,
        message: "write the part".into(),
        causes: vec!["No space left on device".into()],
        hint: Some("make room".into()),
    }
}

pub(crate) fn hellos() -> Vec<(&'static str, Hello)> {
    vec![("Hello", Hello { min: 3, max: 3, software: "baton-agent 0.1.0".into() })]
}

every!(products: Product { Redis = Product::Redis, Valkey = Product::Valkey, Other = Product::Other, });
every!(magics: Magic { Redis = Magic::Redis, Valkey = Magic::Valkey, Other = Magic::Other, });
every!(standings: Standing {
    Deposed = Standing::Deposed,
    Reinstated = Standing::Reinstated,
    Rejoined = Standing::Rejoined,
});
every!(fault_kinds: FaultKind {
    Unsupported = FaultKind::Unsupported,
    NotAllowed = FaultKind::NotAllowed,
    NotFound = FaultKind::NotFound,
    Invalid = FaultKind::Invalid,
    Refused = FaultKind::Refused,
    Held = FaultKind::Held,
    Server = FaultKind::Server,
    Peer = FaultKind::Peer,
    Host = FaultKind::Host,
    Verification = FaultKind::Verification,
    Internal = FaultKind::Internal,
});
