//! That programs of neighbouring releases understand each other, for every message and every variant in one: by samples of
//! `samples`, changed as another release might change them, and by what earlier builds wrote down in `golden`.
//!
//! ```text
//!   BATON_GOLDEN=write cargo test -p baton-proto --test compatible     notes what is new; what stands there stays
//! ```

mod golden;
mod newer;
mod samples;

use baton_neighbour::Tree;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// What is done with every kind of message.
trait Look {
    fn look<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(
        &mut self,
        kind: &'static str,
        samples: Vec<(&'static str, T)>,
    );
}

/// Shows all kinds of messages.
fn all(look: &mut impl Look) {
    use samples::{orders, outcomes, reports, requests};
    look.look("hello", samples::hellos());
    look.look("request", requests::requests());
    look.look("answer", requests::answers());
    look.look("verdict", requests::verdicts());
    look.look("action", orders::actions());
    look.look("landing", orders::landings());
    look.look("saving", orders::savings());
    look.look("method", orders::methods());
    look.look("status", outcomes::statuses());
    look.look("outcome", outcomes::outcomes());
    look.look("compared", outcomes::comparisons());
    look.look("durability", outcomes::durabilities());
    look.look("state", reports::states());
    look.look("role", reports::roles());
    look.look("link", reports::links());
    look.look("product", samples::products());
    look.look("magic", samples::magics());
    look.look("standing", samples::standings());
    look.look("fault_kind", samples::fault_kinds());
}

/// Every struct of a message, by its place, and how many fields it has.
fn structs(tree: &mut Tree) -> Vec<usize> {
    let mut found = Vec::new();
    tree.visit(&mut |tree| {
        if let Tree::Struct(fields) = tree {
            found.push(fields.len());
        }
    });
    found
}

/// The message without all fields that may be left out.
fn bare<T: Serialize + DeserializeOwned>(sample: &T) -> Tree {
    let whole = Tree::of(sample).unwrap();
    let mut rest = whole.clone();
    let mut place = 0;
    // A field that goes takes the structs below it along, which all come behind this one.
    while let Some(fields) = structs(&mut rest).get(place).copied() {
        for field in (0..fields).rev() {
            let less = without(&rest, place, field);
            if less.as_ref().and_then(read::<T>).is_some_and(|read| stranges(&read) == stranges(&whole)) {
                rest = less.unwrap();
            }
        }
        place += 1;
    }
    rest
}

/// What is understood of a message, if it is.
fn read<T: Serialize + DeserializeOwned>(tree: &Tree) -> Option<Tree> {
    let message = baton_proto::codec::decode::<T>(&tree.encode().unwrap()).ok()?;
    Some(Tree::of(&message).unwrap())
}

/// How many servers are in a state that is not understood.
fn stranges(tree: &Tree) -> usize {
    let mut found = 0;
    tree.clone().visit(&mut |tree| {
        if let Tree::Struct(fields) = tree {
            found += fields.iter().filter(|field| **field == ("state".into(), Tree::Str("strange".into()))).count();
        }
    });
    found
}

/// The message with one field less, of the struct at this place.
fn without(tree: &Tree, place: usize, field: usize) -> Option<Tree> {
    let mut tree = tree.clone();
    let (mut at, mut found) = (0, false);
    tree.visit(&mut |tree| {
        if let Tree::Struct(fields) = tree {
            if at == place && field < fields.len() {
                fields.remove(field);
                found = true;
            }
            at += 1;
        }
    });
    found.then_some(tree)
}
