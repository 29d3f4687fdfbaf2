//! What is ordered.

use baton_proto::compared::Comparing;
use baton_proto::control::{Action, Landing, SaveMethod, Saving};
use baton_proto::data::Budget;

use super::*;

pub(crate) fn pull() -> Action {
    let landing = Landing::Spooled { follow: at("10.0.0.2:6379"), near_bytes: 1 << 20, timeout_seconds: 60 };
    Action::Pull { from: host("machine-b"), address: at("10.0.0.2:7400"), ticket: ticket(), landing }
}

every!(actions: Action {
    Fence = Action::Fence { expect: lineage() },
    Depose = Action::Depose { deposition: Box::new(deposition()) },
    SaveAside = Action::SaveAside {
        deposition: Box::new(deposition()),
        compare: Some(Comparing { with: at("10.0.0.3:6379"), limit_seconds: 60 }),
    },
    Promote = Action::Promote,
    Follow = Action::Follow { to: at("10.0.0.3:6379"), expect: Some(lineage()), timeout_seconds: 60 },
    HandOver = Action::HandOver { to: at("10.0.0.2:6379"), canary: "sw-1".into(), timeout_ms: 2000 },
    KeepPrimary = Action::KeepPrimary { timeout_ms: 2000 },
    AwaitWrites = Action::AwaitWrites { value: "sw-1".into(), timeout_ms: 2000 },
    Backlog = Action::Backlog { bytes: 1 << 28, hold_seconds: 3600 },
    Spool = Action::Spool { hold_seconds: 3600 },
    GiveBack = Action::GiveBack,
    Snapshot = Action::Snapshot { method: SaveMethod::Bgsave },
    Offer = Action::Offer {
        ticket: ticket(),
        to: host("machine-c"),
        budget: Budget { max_rate: Some(1 << 20), cpu: Some(2) },
    },
    Pull = pull(),
    Stop = Action::Stop { save: Saving::Empty },
    Install = Action::Install,
    Start = Action::Start { follow: Some(at("10.0.0.2:6379")), timeout_seconds: 600 },
    EnableAof = Action::EnableAof { timeout_seconds: 600 },
    Persist = Action::Persist,
    WriteCanary = Action::WriteCanary { value: "fo-7k2m".into() },
    ReadCanary = Action::ReadCanary { value: "fo-7k2m".into(), timeout_seconds: 10 },
    DropCanary = Action::DropCanary,
    Restore = Action::Restore,
    Release = Action::Release { keep_old: true },
});

every!(landings: Landing {
    File = Landing::File { loads: true },
    Live = Landing::Live { follow: Some(at("10.0.0.2:6379")), timeout_seconds: 60 },
    Spooled = Landing::Spooled { follow: at("10.0.0.2:6379"), near_bytes: 1 << 20, timeout_seconds: 60 },
});

every!(savings: Saving {
    Empty = Saving::Empty,
    Always = Saving::Always,
    IfChanged = Saving::IfChanged,
});

every!(methods: SaveMethod {
    Save = SaveMethod::Save,
    Bgsave = SaveMethod::Bgsave,
    Existing = SaveMethod::Existing,
    Stream = SaveMethod::Stream,
});
