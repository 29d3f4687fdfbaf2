//! `save`: a copy that begins with a fresh `SAVE`, beside the save alone and the wire alone.

use std::time::Instant;

use crate::bench::bars;
use crate::bench::files::FileKind;
use crate::bench::measure::{Setting, say};
use crate::bench::network::WAN;
use crate::bench::probe::median;
use crate::bench::report::{Section, Table, figure};

pub const FILE: FileKind = bars::REFERENCE;

pub fn run(setting: &Setting) -> anyhow::Result<Section> {
    let kind = setting.link.unwrap_or(WAN);
    let snapshot = setting.snapshot(setting.file_or(FILE))?;
    let lab = setting.lab(kind)?;
    // The server loads the dump that lies there.
    lab.place(&snapshot)?;
    lab.b().start_server();
    lab.start_agents();
    let (mut saves, mut wires, mut wholes, mut notes) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for turn in 1..=setting.repetitions {
        lab.clear_target()?;
        rustix::fs::sync();
        let begun = Instant::now();
        lab.b().client().call(&["SAVE"]);
        saves.push(begun.elapsed().as_secs_f64());
        for (method, seconds) in [("existing", &mut wires), ("save", &mut wholes)] {
            lab.clear_target()?;
            rustix::fs::sync();
            match lab.start_copy(method)?.wait() {
                Ok(copied) => seconds.push(copied.seconds),
                Err(error) => notes.push(format!("failed: --snapshot {method}, turn {turn}: {error:#}")),
            }
        }
        say(&format!("save, turn {turn}: saves {saves:.2?}, existing {wires:.2?}, fresh {wholes:.2?}"));
    }
    let (save, wire, whole) = (median(&saves), median(&wires), median(&wholes));
    let least = save.zip(wire).map(|(save, wire)| save.max(wire));
    let multiple = whole.zip(least).map(|(whole, least)| whole / least);
    let [bar, verdict] = bars::at_most(multiple, Some(bars::SAVE_OVERLAP_MAX));
    let head = [
        "SAVE alone, s",
        "copy of an existing dump, s",
        "copy with --snapshot save, s",
        "to the longer",
        "bar",
        "verdict",
    ];
    let mut table = Table::new(&head);
    table.row([figure(save, 2), figure(wire, 2), figure(whole, 2), figure(multiple, 2), bar, verdict]);
    let text =
        format!("On {}, medians of {} runs with the data of {}.", kind.title, setting.repetitions, snapshot.kind);
    Ok(Section { title: "Save and send".to_owned(), text, tables: vec![table], notes })
}
