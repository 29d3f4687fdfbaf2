//! The names of the fields that a struct reads, as its `Deserialize` tells them.

use std::fmt;

use serde::de::{self, DeserializeOwned, Deserializer, Visitor};
use serde::forward_to_deserialize_any;

/// The fields of a struct with derived `Deserialize`; none of anything else.
pub fn fields<T: DeserializeOwned>() -> Vec<&'static str> {
    let mut seen = Vec::new();
    // It always fails, since there is nothing to read; by then it has told what it would have read.
    let _ = T::deserialize(Listener { seen: &mut seen });
    seen
}

struct Listener<'a> {
    seen: &'a mut Vec<&'static str>,
}

#[derive(Debug)]
struct Nothing;

impl fmt::Display for Nothing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("there is nothing to read")
    }
}

impl std::error::Error for Nothing {}

impl de::Error for Nothing {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Nothing
    }
}

impl<'de> Deserializer<'de> for Listener<'_> {
    type Error = Nothing;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Nothing> {
        Err(Nothing)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Nothing> {
        self.seen.extend_from_slice(fields);
        Err(Nothing)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit unit_struct newtype_struct
        seq tuple tuple_struct map enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_fields_of_a_struct_are_told_and_nothing_of_others() {
        #[derive(serde::Deserialize)]
        #[expect(dead_code, reason = "only its shape matters")]
        struct Shape {
            listen: String,
            #[serde(rename = "disk_reserve")]
            disk: Option<u64>,
        }
        assert_eq!(super::fields::<Shape>(), ["listen", "disk_reserve"]);
        assert!(super::fields::<u64>().is_empty());
    }
}
