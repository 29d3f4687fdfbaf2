//! The options of every verb that moves a snapshot.

use baton_proto::control::SaveMethod;
use baton_proto::data::Budget;
use clap::{Args, ValueEnum};

use crate::plan::{Goal, Intent, Way};
use crate::rate::MaxRate;

/// How a snapshot is moved, for every verb that moves one.
#[derive(Args)]
pub struct Moving {
    /// How the snapshot is made
    #[arg(long, value_enum, default_value_t = SnapshotChoice::Auto)]
    snapshot: SnapshotChoice,
    /// How the snapshot comes into the target's server
    #[arg(long, value_enum, default_value_t = LandingChoice::Auto)]
    landing: LandingChoice,
    /// Go on although the target holds data; its old dump is kept aside
    #[arg(long)]
    pub replace_target_data: bool,
    /// Send no faster than this, such as 50MB/s or 400Mbit/s; `coord rate` changes it meanwhile
    #[arg(long, value_name = "RATE")]
    max_rate: Option<MaxRate>,
    /// Cores of the source that pack the snapshot [default: all, as far as they are idle]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    cpu: Option<u32>,
}

impl Moving {
    /// What is wanted of a move, as far as its options say it.
    pub fn intent(&self, goal: Goal) -> Intent {
        Intent {
            snapshot: self.method(),
            landing: self.way(),
            budget: self.budget(),
            replace_target_data: self.replace_target_data,
            ..Intent::of(goal)
        }
    }

    fn method(&self) -> Option<SaveMethod> {
        self.snapshot.method()
    }

    fn way(&self) -> Option<Way> {
        self.landing.way()
    }

    pub fn budget(&self) -> Budget {
        Budget { max_rate: self.max_rate.map(MaxRate::bytes_per_second), cpu: self.cpu }
    }
}

#[derive(Clone, Copy, ValueEnum)]
pub enum SnapshotChoice {
    /// SAVE where nobody is served meanwhile, else BGSAVE; a stream where the source's disk has no room
    Auto,
    /// The server writes it and serves nobody meanwhile
    Save,
    /// A fork of the server writes it
    Bgsave,
    /// The dump that is there is taken as it is
    Existing,
    /// A fork of the server sends it through memory; nothing is written on the source's disk
    Stream,
}

impl SnapshotChoice {
    pub fn method(self) -> Option<SaveMethod> {
        match self {
            SnapshotChoice::Auto => None,
            SnapshotChoice::Save => Some(SaveMethod::Save),
            SnapshotChoice::Bgsave => Some(SaveMethod::Bgsave),
            SnapshotChoice::Existing => Some(SaveMethod::Existing),
            SnapshotChoice::Stream => Some(SaveMethod::Stream),
        }
    }
}

#[derive(Clone, Copy, ValueEnum)]
pub enum LandingChoice {
    /// Live where the target is empty and its server can, else by file
    Auto,
    /// The target's server loads while the bytes arrive
    Live,
    /// The file is put in place, and the target's server is started on it
    File,
}

impl LandingChoice {
    pub fn way(self) -> Option<Way> {
        match self {
            LandingChoice::Auto => None,
            LandingChoice::Live => Some(Way::Live),
            LandingChoice::File => Some(Way::File),
        }
    }
}
