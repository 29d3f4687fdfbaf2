//! A message as what it is made of: fields, variants, and data.

mod grow;

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};

/// A value. Read from bytes it knows no fields and variants: those are maps and strings there.
#[derive(Debug, Clone, PartialEq)]
pub enum Tree {
    Nil,
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Str(String),
    Bytes(Vec<u8>),
    Seq(Vec<Tree>),
    /// Keys that are data.
    Map(Vec<(Tree, Tree)>),
    Struct(Vec<(String, Tree)>),
    Variant(String, Option<Box<Tree>>),
}

/// A message could not be taken apart or put together.
#[derive(Debug)]
pub struct TreeError(String);

impl fmt::Display for TreeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl std::error::Error for TreeError {}

impl serde::ser::Error for TreeError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

impl Tree {
    /// The fields by which an enum tells its variant among the others.
    pub const TAGS: [&'static str; 3] = ["state", "role", "link"];

    /// Takes a message apart.
    pub fn of<T: Serialize + ?Sized>(message: &T) -> Result<Tree, TreeError> {
        message.serialize(grow::Grow)
    }

    /// Reads bytes.
    pub fn decode(bytes: &[u8]) -> Result<Tree, TreeError> {
        rmp_serde::from_slice(bytes).map_err(|error| TreeError(error.to_string()))
    }

    /// Puts the message together again.
    pub fn encode(&self) -> Result<Vec<u8>, TreeError> {
        rmp_serde::to_vec_named(self).map_err(|error| TreeError(error.to_string()))
    }

    /// What no release says: something of every kind.
    pub(crate) fn newer() -> Tree {
        let word = Tree::Str("?".into());
        let below = Tree::Map(vec![(Tree::Signed(1), Tree::Nil), (Tree::Unsigned(2), Tree::Bytes(vec![7; 3]))]);
        Tree::Variant("unheard_of".into(), Some(Box::new(Tree::Seq(vec![word, below, Tree::Signed(-7)]))))
    }

    /// Shows every value, those below one after it.
    pub fn visit(&mut self, look: &mut impl FnMut(&mut Tree)) {
        look(self);
        match self {
            Tree::Seq(values) => values.iter_mut().for_each(|value| value.visit(look)),
            Tree::Map(pairs) => pairs.iter_mut().for_each(|(_, value)| value.visit(look)),
            Tree::Struct(fields) => fields.iter_mut().for_each(|(_, value)| value.visit(look)),
            Tree::Variant(_, Some(value)) => value.visit(look),
            _ => {}
        }
    }

    /// Whether all that stands in `less` stands here as well, at the same place: a map may have more.
    pub fn holds(&self, less: &Tree) -> bool {
        match (self, less) {
            (Tree::Map(own), Tree::Map(less)) => less
                .iter()
                .all(|(key, value)| own.iter().any(|(own_key, own_value)| own_key == key && own_value.holds(value))),
            (Tree::Seq(own), Tree::Seq(less)) => {
                own.len() == less.len() && own.iter().zip(less).all(|(own, less)| own.holds(less))
            }
            _ => self == less,
        }
    }
}

impl Serialize for Tree {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Tree::Nil => to.serialize_none(),
            Tree::Bool(value) => to.serialize_bool(*value),
            Tree::Unsigned(value) => to.serialize_u64(*value),
            Tree::Signed(value) => to.serialize_i64(*value),
            Tree::Float(value) => to.serialize_f64(*value),
            Tree::Str(value) | Tree::Variant(value, None) => to.serialize_str(value),
            Tree::Bytes(value) => to.serialize_bytes(value),
            Tree::Seq(values) => to.collect_seq(values),
            Tree::Map(pairs) => to.collect_map(pairs.iter().map(|(key, value)| (key, value))),
            Tree::Struct(fields) => to.collect_map(fields.iter().map(|(name, value)| (name, value))),
            Tree::Variant(name, Some(value)) => {
                let mut map = to.serialize_map(Some(1))?;
                map.serialize_entry(name, value)?;
                map.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Tree;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                write!(f, "a value")
            }
            fn visit_unit<E>(self) -> Result<Tree, E> {
                Ok(Tree::Nil)
            }
            fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
                Ok(Tree::Bool(value))
            }
            fn visit_u64<E>(self, value: u64) -> Result<Tree, E> {
                Ok(Tree::Unsigned(value))
            }
            fn visit_i64<E>(self, value: i64) -> Result<Tree, E> {
                Ok(Tree::Signed(value))
            }
            fn visit_f64<E>(self, value: f64) -> Result<Tree, E> {
                Ok(Tree::Float(value))
            }
            fn visit_str<E: de::Error>(self, value: &str) -> Result<Tree, E> {
                Ok(Tree::Str(value.into()))
            }
            fn visit_bytes<E: de::Error>(self, value: &[u8]) -> Result<Tree, E> {
                Ok(Tree::Bytes(value.into()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Tree, A::Error> {
                let mut values = Vec::new();
                while let Some(value) = from.next_element()? {
                    values.push(value);
                }
                Ok(Tree::Seq(values))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Tree, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = from.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Tree::Map(pairs))
            }
        }
        from.deserialize_any(Any)
    }
}
