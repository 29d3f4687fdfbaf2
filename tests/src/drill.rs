//! The drill: a failover among random faults at random moments, with clients that write; and a judge of what is there at the
//! end. Each run is a function of its seed, as far as a machine's own timing lets it be.
//!
//! ```text
//!   story      what is to happen (pure)       stage     the world, until A is lost         disk     one that can be full
//!   faults     break and mend                 play      runs `coord`, to the end           witness  asks servers
//!   evidence   what the judge goes by         judge     whether all is as it may be (pure)
//! ```

pub mod disk;
pub mod evidence;
pub mod faults;
pub mod judge;
pub mod play;
pub mod stage;
pub mod story;
pub mod witness;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use self::evidence::Standing;
use self::play::Play;
use self::story::Story;

/// The file in the directory of a run that failed, which tells what this report tells.
const TOLD: &str = "story.txt";

/// What became of a run.
#[derive(Debug)]
pub struct Report {
    pub seed: u64,
    pub outcome: &'static str,
    pub seconds: f64,
    pub failed: bool,
    text: String,
}

/// Plays the story of a seed. The directory of a run that fails is kept.
pub fn run(seed: u64) -> Report {
    let (begun, story) = (Instant::now(), Story::draw(seed));
    let played = catch_unwind(AssertUnwindSafe(|| play(&story)));
    let seconds = begun.elapsed().as_secs_f64();
    match played {
        Ok((outcome, failed, text)) => Report { seed, outcome, seconds, failed, text },
        Err(panic) => {
            let says = panic.downcast_ref::<String>().cloned();
            let says = says.or_else(|| panic.downcast_ref::<&str>().map(|says| (*says).to_owned()));
            let text = format!("{story}\n!! the drill could not go on: {}\n", says.unwrap_or_default());
            Report { seed, outcome: "broke off", seconds, failed: true, text }
        }
    }
}

fn play(story: &Story) -> (&'static str, bool, String) {
    let mut play = Play::of(story);
    let standing = play.to_its_end();
    let failed = !play.findings.is_empty();
    let mut text = format!("{story}\n");
    text.extend(play.faults.told.iter().map(|line| format!("{line}\n")));
    if failed {
        text += "what the judge found:\n";
        text.extend(play.findings.iter().map(|finding| format!("  {finding}\n")));
        text += &format!("kept: {}\n", play.stage.world.dir().display());
        // The report is printed as well.
        let _ = std::fs::write(play.stage.world.dir().join(TOLD), &text);
        play.stage.world.keep();
    }
    (outcome(standing), failed, text)
}

fn outcome(standing: Standing) -> &'static str {
    match standing {
        Standing::Served { whole: true } => "done",
        Standing::Served { whole: false } => "degraded",
        Standing::Unserved => "as before",
        Standing::HalfWay => "half-way",
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.failed { "FAIL" } else { "ok" };
        write!(f, "{verdict:4} seed {}: {}, {:.1} s\n{}", self.seed, self.outcome, self.seconds, self.text)?;
        if self.failed {
            writeln!(f, "again: tests/drill --seed {} --runs 1", self.seed)?;
        }
        Ok(())
    }
}
